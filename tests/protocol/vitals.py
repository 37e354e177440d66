"""Whether a receiver is unharmed: what a fault leaves behind is nothing.

Faults are asserted from outside and on the storage: after each, a good C-STORE works at once, and
descriptors, threads, memory, files and everything the receiver counts are back to base.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import psutil  # type: ignore[import-untyped]

from tests.protocol.peer import Peer
from tests.protocol.receiver import ReceiverProcess
from tests.unit.store_scp.builders import CT_IMAGE, EXPLICIT_LE, data_set

GOOD = data_set()
GOOD_INSTANCE = "1.2.3.4"
CT = [(CT_IMAGE, [EXPLICIT_LE])]

# An answer takes milliseconds; only a peer that waits for another's deadline waits this long.
_AT_ONCE = 5.0
_SETTLED_IN = 15.0
_POLL = 0.02
# Of each worker: the loop's, the lifeline's, that of the credentials, and the sink's eight, which
# come as they are needed and stay.
_MOST_THREADS = 11
# The spool keeps 26 MiB of unused buffers; the rest is the allocator's.
_MOST_GROWTH = 40 * 1024**2
_BUSY = (
    "open_connections",
    "established_associations",
    "in_flight_bytes",
    "in_flight_uploads",
    "waiting_operations",
)

GoodPeer = Callable[[ReceiverProcess], Peer]


def plain_peer(process: ReceiverProcess) -> Peer:
    return Peer(process.port, CT)


@dataclass(frozen=True, slots=True)
class Vitals:
    """What an idle receiver takes, and what it has stored."""

    descriptors: int
    resident: int
    files: frozenset[Path]
    workers: frozenset[int]


def store_well(process: ReceiverProcess, good: GoodPeer = plain_peer) -> None:
    """A good C-STORE, which nothing delays."""
    began = time.monotonic()
    with good(process) as peer:
        assert peer.store(GOOD, CT_IMAGE, GOOD_INSTANCE).status == 0x0000
    assert time.monotonic() - began < _AT_ONCE


def baseline(process: ReceiverProcess, good: GoodPeer = plain_peer) -> Vitals:
    """The vitals after a first good C-STORE, which loads what is loaded late.

    The receiver listens, and serves, before its last worker is there.
    """
    _until(lambda: set(process.states()) - {"ready"}, "not every worker is ready")
    until(lambda: len(process.workers()) == len(process.states()), "a worker is missing")
    store_well(process, good)
    _until(lambda: busy(process), "is still busy")
    return Vitals(_descriptors(process), _resident(process), files(process), _worker_pids(process))


def assert_unharmed(process: ReceiverProcess, base: Vitals, good: GoodPeer = plain_peer) -> None:
    """A good C-STORE works at once, and everything is back to base."""
    store_well(process, good)
    _until(lambda: busy(process), "is still busy")
    _until(lambda: max(0, _descriptors(process) - base.descriptors), "descriptors too many")
    assert not unfinished(process)
    assert _worker_pids(process) == base.workers, "a worker died"
    assert max(worker.num_threads() for worker in process.workers()) <= _MOST_THREADS
    assert _resident(process) - base.resident < _MOST_GROWTH


@contextmanager
def unharmed(
    environment: Mapping[str, str] = MappingProxyType({}),
    *,
    good: GoodPeer = plain_peer,
    stores: bool = False,
    **more: str,
) -> Iterator[ReceiverProcess]:
    """A receiver of a test's own, which has to be unharmed at the end.

    ``stores``: whether the test stores anything besides the one good instance.
    """
    with ReceiverProcess(**environment, **more) as process:
        base = baseline(process, good)
        yield process
        assert_unharmed(process, base, good)
        assert stores or files(process) == base.files


def busy(process: ReceiverProcess) -> dict[str, float]:
    """What is counted as open or under way, where it is not 0."""
    metrics = process.metrics()
    return {name: metrics[name] for name in _BUSY if metrics[name]}


def unfinished(process: ReceiverProcess) -> list[Path]:
    """The directory sink's temporary files."""
    found = (process.storage / ".incoming").glob("*")
    return [each for each in found if each.suffix != ".lock"]


def until(condition: Callable[[], object], complaint: str) -> None:
    """Wait for a condition outside this process, which cannot notify."""
    _until(lambda: not condition(), complaint)


def _until(find: Callable[[], object], complaint: str) -> None:
    """Wait until nothing is found."""
    deadline = time.monotonic() + _SETTLED_IN
    while found := find():
        assert time.monotonic() < deadline, f"{complaint}: {found}"
        time.sleep(_POLL)


def files(process: ReceiverProcess) -> frozenset[Path]:
    """Everything that a directory sink has written, its workers' claims aside."""
    found = (each for each in process.storage.rglob("*") if each.is_file())
    return frozenset(each for each in found if each.suffix != ".lock")


def _descriptors(process: ReceiverProcess) -> int:
    """Of all workers, but for the connections to S3 that are kept alive."""
    every = sum(int(each.num_fds()) for each in process.workers())
    if process.storage.is_dir():
        return every
    return every - sum(_outbound(process, each) for each in process.workers())


def _outbound(process: ReceiverProcess, worker: psutil.Process) -> int:
    ours = {process.port, process.tls_port}
    return sum(each.laddr.port not in ours for each in worker.net_connections("tcp"))


def _worker_pids(process: ReceiverProcess) -> frozenset[int]:
    return frozenset(each.pid for each in process.workers())


def _resident(process: ReceiverProcess) -> int:
    return sum(each.memory_info().rss for each in process.workers())
