"""Data sets that cannot be stored, and those that look so (docs/faults.md)."""

import struct
import zlib
from collections.abc import Callable, Mapping

import pytest

from tests.protocol.peer import Peer
from tests.protocol.receiver import PLANTED, ReceiverProcess
from tests.protocol.shared import SharedReceivers
from tests.protocol.vitals import GOOD
from tests.unit.store_scp.builders import (
    CT_IMAGE,
    DEFLATED,
    EXPLICIT_LE,
    ITEM,
    ITEM_END,
    SEQUENCE_END,
    SERIES,
    SOP_CLASS,
    SOP_INSTANCE,
    STUDY,
    UNDEFINED,
    data_set,
    element,
)

MIB = 1024**2
CONTEXTS = [(CT_IMAGE, [EXPLICIT_LE]), (CT_IMAGE, [DEFLATED])]
PATIENT = element((0x0010, 0x0010), b"PN", PLANTED.encode())
SEQUENCE = element((0x0008, 0x1140), b"SQ", b"", length=UNDEFINED)
# Where a sequence of group 0008 belongs.
BEFORE_STUDY = GOOD.index(element(STUDY, b"UI", b"")[:4])


def with_inside(inserted: bytes) -> bytes:
    """The good data set with something between its SOP Instance UID and its study."""
    return GOOD[:BEFORE_STUDY] + inserted + GOOD[BEFORE_STUDY:]


def nested(levels: int) -> bytes:
    return with_inside((SEQUENCE + ITEM) * levels + (ITEM_END + SEQUENCE_END) * levels)


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def deflated_bomb(head: bytes, tail: bytes = b"") -> bytes:
    """Deflated: 600 MiB of zeros, so never whole in memory, between two pieces."""
    packer = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    pieces = [head, *[bytes(MIB)] * 600, tail]
    return b"".join(map(packer.compress, pieces)) + packer.flush()


def bomb_before_the_header() -> bytes:
    return deflated_bomb(element((0x0008, 0x0005), b"UN", b"", length=600 * MIB), GOOD)


def other(number: int) -> bytes:
    """The good data set as another instance."""
    return data_set(replaced={SOP_INSTANCE: f"1.2.3.5{number}".encode()})


EMPTY = element((0x0009, 0x0001), b"LO", b"")
UNREADABLE: Mapping[str, tuple[int, bytes | None]] = {
    "garbage": (0xC002, b"GET / HTTP/1.1\r\nHost: " + PLANTED.encode()),
    "truncated": (0xC000, with_inside(PATIENT)[:55]),
    "no data set": (0xC001, None),
    "an empty data set": (0xC001, b""),
    "a single byte": (0xC000, b"\x08"),
    "no SOP class": (0xC002, data_set(without=SOP_CLASS)),
    "no SOP instance UID": (0xC003, data_set(without=SOP_INSTANCE)),
    "no study": (0xC004, data_set(without=STUDY)),
    "no series": (0xC005, data_set(without=SERIES)),
    "an element twice": (0xC000, GOOD[:BEFORE_STUDY] + GOOD),
    "a Part 10 file with a program for a preamble": (
        0xC000,
        b"MZ\x90\x00".ljust(128, b"\x00") + b"DICM" + GOOD,
    ),
}
BOMBS: Mapping[str, tuple[int, bytes]] = {
    "sequences too deep": (0xC006, nested(65)),
    "sequences far too deep": (0xC006, nested(100_000)),
    "elements without end": (0xC006, with_inside(EMPTY * 250_000)),
}
# Decided in docs/faults.md: what follows the header is the import's to judge.
OPAQUE: Mapping[str, tuple[int, Callable[[], bytes]]] = {
    "an odd VR": (
        1,
        lambda: other(1) + struct.pack("<HH2sHI", 0x7FE1, 0x10, b"zz", 0, 2**32 - 2),
    ),
    "truncated pixels": (1, lambda: other(2)[:-3]),
    "sequences too deep": (1, lambda: other(3) + (SEQUENCE + ITEM) * 1_000),
    "a deflate bomb": (3, lambda: deflated_bomb(other(4))),
}


@pytest.mark.fault("unreadable-data-set")
@pytest.mark.parametrize("case", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_cannot_be_understood_is_refused_and_the_association_goes_on(
    receiver: ReceiverProcess, case: tuple[int, bytes | None]
) -> None:
    assert_refused(receiver, *case)


@pytest.mark.fault("parser-bomb")
@pytest.mark.parametrize("case", BOMBS.values(), ids=BOMBS.keys())
def test_a_parser_bomb_is_refused_and_the_association_goes_on(
    receiver: ReceiverProcess, case: tuple[int, bytes]
) -> None:
    assert_refused(receiver, *case)


def assert_refused(receiver: ReceiverProcess, status: int, data: bytes | None) -> None:
    with Peer(receiver.port, CONTEXTS) as peer:
        response = peer.store(data, CT_IMAGE, "1.2.3.4")
        assert response.status == status
        assert 0 < len(response.comment) <= 64
        assert peer.store(GOOD, CT_IMAGE, "1.2.3.4").status == 0x0000


@pytest.mark.fault("parser-bomb")
@pytest.mark.parametrize(
    ("made", "status"),
    [
        (lambda: b"\xff" * 50, 0xC007),
        (bomb_before_the_header, 0xC000),
        (lambda: deflated(GOOD[:60]), 0xC000),
    ],
    ids=["not deflated", "a bomb before the header", "truncated"],
)
def test_a_deflated_data_set_is_inflated_up_to_its_header_only(
    receiver: ReceiverProcess, made: Callable[[], bytes], status: int
) -> None:
    data = made()
    (worker,) = receiver.workers()
    before = worker.memory_info().rss
    with Peer(receiver.port, CONTEXTS) as peer:
        assert peer.store(data, CT_IMAGE, "1.2.3.4", 3).status == status
        assert worker.memory_info().rss - before < 32 * MIB


@pytest.mark.fault("parser-bomb")
@pytest.mark.parametrize("case", OPAQUE.values(), ids=OPAQUE.keys())
def test_what_is_behind_the_header_is_kept_as_it_is(
    storing: ReceiverProcess, case: tuple[int, Callable[[], bytes]]
) -> None:
    context_id, data = case[0], case[1]()
    uid = f"1.2.3.5{list(OPAQUE.values()).index(case) + 1}"
    with Peer(storing.port, CONTEXTS) as peer:
        assert peer.store(data, CT_IMAGE, uid, context_id).status == 0x0000
    stored = (storing.storage / "1.2.3" / "1.2.3.3" / f"{uid}.dcm").read_bytes()
    assert stored.endswith(data)
    assert stored[:128] == bytes(128)


@pytest.mark.fault("parser-bomb")
@pytest.mark.parametrize("limit", [1_000, 18_000_000])
def test_an_instance_over_the_cap_is_out_of_resources(
    receivers: SharedReceivers, limit: int
) -> None:
    large = data_set(pixels=bytes(20 * MIB))
    with (
        receivers.using({"MAX_INSTANCE_BYTES": str(limit)}) as process,
        Peer(process.port, CONTEXTS) as peer,
    ):
        assert peer.store(large, CT_IMAGE, "1.2.3.4").status == 0xA700
        assert peer.store(GOOD, CT_IMAGE, "1.2.3.4").status == 0x0000
