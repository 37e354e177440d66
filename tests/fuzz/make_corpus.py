"""``python -m tests.fuzz.make_corpus FOLDER``: one good input of every kind, to start from."""

import hashlib
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

from tests.fuzz.targets import (
    TARGETS,
    associate_request,
    command,
    connection,
    header,
    opened,
    proxy,
)
from tests.unit.store_scp.builders import ITEM, data_set, element
from tests.unit.store_scp.test_commands import elements, pynetdicoms_store
from tests.unit.store_scp.upper_layer.peer_bytes import (
    ABORT,
    RELEASE,
    context,
    p_data,
    pdv,
    request,
)

_CASES = Path(__file__).parents[1] / "protocol" / "cases"
_ECHO = elements((0x0100, b"\x30\0"), (0x0110, b"\1\0"), (0x0800, b"\1\1"))


def seeds() -> Iterator[bytes]:
    """The inputs; the first byte chooses the target."""
    store = p_data(pdv(1, 3, pynetdicoms_store())) + p_data(pdv(1, 0, b"da"), pdv(1, 2, b"ta"))
    empty = p_data(pdv(1, 3, pynetdicoms_store()), *[pdv(1, 0, b"")] * 300)
    for stream in (
        request(),
        empty + RELEASE,
        p_data(pdv(1, 3, _ECHO)) * 40,
        store + RELEASE,
        p_data(pdv(1, 3, _ECHO)),
        ABORT,
        b"GET / HTTP/1.1\r\n\r\n",
    ):
        for cuts in (bytes(8), bytes((1, 3, 5, 7, 20, 40, 60, 100))):
            yield _for(connection) + cuts + stream
    for case in sorted(_CASES.glob("*.bin")):
        yield _for(connection) + bytes(8) + case.read_bytes()
        yield _for(opened) + case.read_bytes()[:20]
    for first in (b"\x16\x03\x01", b"GET / HTTP/1.1", b"PROXY TCP4 ", b"\r\n\r\n\0\r\nQUIT\n\x21"):
        yield _for(opened) + first
    yield _for(associate_request) + request([context(1), context(3)])[6:]
    yield _for(command) + pynetdicoms_store()
    yield _for(command) + _ECHO
    yield _for(header) + b"\0" + data_set(explicit=False)
    yield _for(header) + b"\1" + data_set()
    yield _for(header) + b"\2" + data_set(order=">")
    beyond = element((0x0029, 0x1000), b"LO", b"12")
    yield _for(header) + b"\1" + element((0x0002, 0x0010), b"UI", b"1.2\0") + data_set()
    yield _for(header) + b"\1" + beyond + data_set()
    yield _for(header) + b"\1" + data_set()[:60] + beyond + ITEM + data_set()[60:]
    yield _for(header) + b"\1" + element((0x0009, 0x1000), b"LO", b"") * 400 + data_set()
    deflate = zlib.compressobj(wbits=-15)
    yield _for(header) + b"\3" + deflate.compress(data_set()) + deflate.flush()
    signature = b"\r\n\r\n\0\r\nQUIT\n"
    v4 = struct.pack(">4s4sHH", b"\x0a\0\0\1", b"\x0a\0\0\2", 5000, 11112)
    yield _for(proxy) + signature + b"\x21\x11" + struct.pack(">H", len(v4)) + v4
    yield _for(proxy) + signature + b"\x20\x00\x00\x00"


def _for(target: object) -> bytes:
    return bytes([[*TARGETS].index(target)])  # type: ignore[arg-type]


def main(folder: Path) -> None:
    """Write them under their digests, as libFuzzer does."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds():
        (folder / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
