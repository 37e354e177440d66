"""Receivers whose stored data sets are compared: ours, and DCMTK's as the witness.

DCMTK and Orthanc encode a data set anew before they send it, so that what they send is not what
their file holds. ``storescp +B`` writes the bytes as they came: it says what ours has to hold.
"""

import hashlib
import io
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pydicom.filereader import _read_file_meta_info, read_preamble

from tests.interop.programs import DCMTK_ENVIRONMENT, find

_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Stored:
    """One stored data set: what it claims to be, and which bytes it is."""

    sop_instance_uid: str
    transfer_syntax: str
    digest: str


@dataclass(frozen=True, slots=True)
class Archive:
    """A running receiver and the folder it stores into."""

    port: int
    folder: Path

    def takes(self, send: Callable[[int], object]) -> Counter[Stored]:
        """What it stores while ``send`` talks to its port."""
        for old in _files(self.folder):
            old.unlink()
        send(self.port)
        return Counter(stored(each.read_bytes()) for each in _files(self.folder))


def stored(part10: bytes) -> Stored:
    """What a Part 10 file holds."""
    stream = io.BytesIO(part10)
    read_preamble(stream, force=False)
    meta = _read_file_meta_info(stream)
    digest = hashlib.sha256(part10[stream.tell() :]).hexdigest()
    return Stored(str(meta.MediaStorageSOPInstanceUID), str(meta.TransferSyntaxUID), digest)


def free_port() -> int:
    """A port nobody listens on, for programs that cannot be told to choose one."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def started(command: list[str], output: IO[bytes]) -> Iterator[None]:
    """A program that runs until it is ended."""
    process = subprocess.Popen(
        command, env=DCMTK_ENVIRONMENT, stdout=output, stderr=subprocess.STDOUT
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(_SECONDS)


@contextmanager
def witness(folder: Path) -> Iterator[Archive]:
    """DCMTK's storescp, which takes every transfer syntax and changes no bit."""
    port = free_port()
    stores = folder / "stored"
    stores.mkdir()
    options = ["+xa", "+B", "+uf", "-od", str(stores), str(port)]
    with (
        (folder / "log").open("wb") as output,
        started([find("storescp"), *options], output),
    ):
        wait_for_port(port)
        yield Archive(port, stores)


def wait_for_port(port: int) -> None:
    """Until somebody listens there: DCMTK says so nowhere."""
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), _SECONDS).close()
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, f"nobody listens on port {port}"
            time.sleep(0.02)
        else:
            return


def _files(folder: Path) -> list[Path]:
    """The stored files; what is not complete yet is in a hidden folder."""
    found = (each for each in folder.rglob("*") if each.is_file())
    return [each for each in found if ".incoming" not in each.parts]
