"""Starts what a row needs, waits until it serves, and takes all of it down again."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from bench.receiver import check
from bench.receiver.errors import BenchError, PeerFailed
from bench.receiver.peers import (
    REPOSITORY,
    Command,
    Peer,
    Place,
    base_environment,
    find,
    script,
)
from bench.receiver.rows import Sink

_START_SECONDS = 30.0
_STOP_SECONDS = 15.0
_STORED_SECONDS = 120.0
_POLL_SECONDS = 0.01
_ZEROS = bytes(1024**2)
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a file system in memory, not a file in it
# The large set, twice over.
_ROOM_BYTES = 8 * 1024**3


@dataclass(frozen=True, slots=True)
class Stage:
    """A peer that listens, and the folder in which everything arrives."""

    pid: int
    port: int
    health_port: int
    sink: Sink
    folder: Path

    def warm_up(self, size: int) -> None:
        """Have as much memory as the images will take.

        A virtual machine gives free pages back to its host within seconds, and whoever touches
        them next would pay for getting them again: four times what storing an image costs.
        """
        path = self.folder.with_name("warm-up")
        with path.open("wb", buffering=0) as file:
            for _ in range(0, size, len(_ZEROS)):
                file.write(_ZEROS)
        path.unlink()

    def wait_until_stored(self, count: int) -> None:
        """Some acknowledge before they store: their work is not done before it is done."""
        if self.sink is Sink.DIRECTORY:
            return
        deadline = time.monotonic() + _STORED_SECONDS
        while check.count_objects(self.folder) < count:
            if time.monotonic() > deadline:
                raise PeerFailed("acknowledged images never reached S3")
            time.sleep(_POLL_SECONDS)

    def digests(self) -> frozenset[str]:
        """Of everything stored."""
        if self.sink is Sink.DIRECTORY:
            return check.files_in(self.folder)
        return check.objects_in(self.folder)


def memory_folder() -> Path:
    """Where images are stored: memory, if there is a file system in it with room."""
    if SHARED_MEMORY.is_dir() and shutil.disk_usage(SHARED_MEMORY).free > _ROOM_BYTES:
        return SHARED_MEMORY
    return Path(gettempdir())


@contextmanager
def stage(
    peer: Peer, sink: Sink, associations: int, wire_bytes: int = 0, latency: float = 0.0
) -> Iterator[Stage]:
    """The peer with an empty sink; raises BenchError."""
    if not peer.is_installed:
        raise BenchError("not installed")
    with ExitStack() as stack:
        root = Path(
            stack.enter_context(TemporaryDirectory(prefix="store-scp-bench-", dir=memory_folder()))
        )
        work, folder = root / "work", root / "stored"
        work.mkdir()
        folder.mkdir()
        port, health_port = _free_ports(2)
        place = Place(port, folder, work, associations, wire_bytes, health_port=health_port)
        if sink is not Sink.DIRECTORY:
            place = stack.enter_context(_with_s3(place, sink, latency))
        command = peer.command(place)
        pid = stack.enter_context(_running(command, place.port, work / "peer.log"))
        yield Stage(pid, place.port, place.health_port, sink, folder)


@contextmanager
def _with_s3(place: Place, sink: Sink, latency: float) -> Iterator[Place]:
    (port,) = _free_ports(1)
    options = ["--port", str(port), "--folder", str(place.folder), "--latency", str(latency)]
    certificate = None
    if sink is Sink.S3_TLS:
        certificate, key = _certificate(place.work)
        options += ["--certificate", str(certificate), "--key", str(key)]
    with _running(script("s3_stand_in", options), port, place.work / "s3.log"):
        url = f"{'https' if certificate else 'http'}://127.0.0.1:{port}"
        yield replace(place, s3_url=url, ca_bundle=certificate)


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for this run, which a peer trusts by name of its file."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    openssl = find("openssl")
    if openssl is None:
        raise BenchError("openssl is not installed")
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext",
         "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


@contextmanager
def _running(command: Command, port: int, log: Path) -> Iterator[int]:
    """The process id of a started program that listens; raises PeerFailed if it never does."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command.arguments,
            cwd=log.parent,
            env=base_environment() | command.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # A group of its own: Ctrl-C comes to us alone, and nothing outlives its leader.
            start_new_session=True,
        )
    try:
        _wait_until_ready(process, command, port, log)
        yield process.pid
    finally:
        _stop(process)


def _wait_until_ready(
    process: subprocess.Popen[bytes], command: Command, port: int, log: Path
) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not _is_ready(command, port, log):
        if process.poll() is not None:
            raise PeerFailed(f"ended with {process.returncode}: {_last_line(log)}")
        if time.monotonic() > deadline:
            raise PeerFailed(f"did not listen: {_last_line(log)}")
        time.sleep(_POLL_SECONDS)


def _is_ready(command: Command, port: int, log: Path) -> bool:
    if command.ready:
        return command.ready in log.read_text(errors="replace")
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_SECONDS)
    with suppress(ProcessLookupError, PermissionError):  # nobody is left
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n")
    said = [line.strip().replace(str(REPOSITORY), ".") for line in lines if line.strip()]
    return said[-1][:200] if said else "it said nothing"


def _free_ports(count: int) -> list[int]:
    """Different ones, since all are taken at once."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(probe.getsockname()[1]) for probe in probes]
