"""Which rows a run has, in which order, and how many images each sends."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bench.receiver.peers import (
    AWS_SAMPLE,
    DCMTK,
    DCMTK_FORK,
    ORTHANC,
    OURS,
    OURS_FLUSHED,
    PYNETDICOM_APP,
    RAW_TCP,
    Peer,
)
from bench.receiver.rows import Sink
from bench.receiver.sets import CT, LARGE, MIXED, SETS, SMALL, SMALL_MIXED, ImageSet

_Turn = TypeVar("_Turn")

_TO_DIRECTORY = (OURS, OURS_FLUSHED, RAW_TCP, DCMTK, DCMTK_FORK, ORTHANC, PYNETDICOM_APP)
# One header for all images, beside the mixed ones: the slow ones need not show it again.
_ONE_LAYOUT_TO_DIRECTORY = (OURS, RAW_TCP, DCMTK, DCMTK_FORK)
_TO_S3 = (OURS, AWS_SAMPLE)
_LARGE_TO_DIRECTORY = (OURS, DCMTK_FORK, ORTHANC, PYNETDICOM_APP)
_ONE_FEW_MANY, _ONE_MANY = (1, 4, 16), (1, 16)
_SLOW_SHARE = 4
_ROUNDS = 3
_QUICK_SCALE = 0.4
# Of a row whose point is latency, in all rounds together.
_LATENCY_IMAGES = 10_000
_QUICK_LATENCY_IMAGES = 1_600

WAITING = "waiting"
TABLES = (*SETS, WAITING)


@dataclass(frozen=True, slots=True)
class Trial:
    """One row to measure, once a round."""

    image_set: ImageSet
    sink: Sink
    peer: Peer
    associations: int
    images: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A run: of all tables or some, with all images in several rounds, or with fewer in one."""

    quick: bool = False
    tables: frozenset[str] = frozenset(TABLES)
    wanted_rounds: int | None = None

    @property
    def rounds(self) -> int:
        """How often each row is measured, in turns with all others of its table."""
        return self.wanted_rounds or (1 if self.quick else _ROUNDS)

    @property
    def scale(self) -> float:
        """Which part of each set is sent."""
        return _QUICK_SCALE if self.quick else 1.0

    @property
    def idle_seconds(self) -> float:
        """How long idle associations are watched in each round."""
        return 4.0 if self.quick else 6.0

    @property
    def latency_images(self) -> int:
        """How many images a row whose point is latency sends in each round."""
        total = _QUICK_LATENCY_IMAGES if self.quick else _LATENCY_IMAGES
        return -(-total // self.rounds)

    @property
    def waiting(self) -> bool:
        """Whether what no table of images shows is measured as well."""
        return WAITING in self.tables

    def trials(self) -> Iterator[Trial]:
        """Every row of the tables wanted."""
        return (each for each in self._all_rows() if each.image_set.name in self.tables)

    def comparison(self, peers: Sequence[Peer]) -> Iterator[Trial]:
        """The rows that compare revisions of this receiver."""
        for image_set in (MIXED, SMALL_MIXED, CT, SMALL):
            for sink in (Sink.DIRECTORY, Sink.S3_HTTP):
                for associations in _ONE_MANY:
                    for trial in self._table(image_set, sink, peers, (associations,)):
                        if image_set.name in self.tables:
                            yield trial

    def _all_rows(self) -> Iterator[Trial]:
        yield from self._table(MIXED, Sink.DIRECTORY, _TO_DIRECTORY, _ONE_FEW_MANY)
        yield from self._table(MIXED, Sink.S3_HTTP, _TO_S3, _ONE_MANY)
        yield from self._table(MIXED, Sink.S3_TLS, _TO_S3, _ONE_MANY)
        yield from self._table(SMALL_MIXED, Sink.DIRECTORY, _TO_DIRECTORY, _ONE_FEW_MANY)
        for image_set in (CT, SMALL):
            yield from self._table(image_set, Sink.DIRECTORY, _ONE_LAYOUT_TO_DIRECTORY, _ONE_MANY)
        yield from self._large(Sink.DIRECTORY, _LARGE_TO_DIRECTORY)
        yield from self._large(Sink.S3_HTTP, _TO_S3)

    def _table(
        self,
        image_set: ImageSet,
        sink: Sink,
        peers: Sequence[Peer],
        associations: Sequence[int],
    ) -> Iterator[Trial]:
        for count in associations:
            for peer in peers:
                if count > peer.max_associations:
                    continue
                if peer is DCMTK_FORK and count == 1:
                    continue  # the single process serves one as well
                images = int(image_set.count * self.scale) // (_SLOW_SHARE if peer.slow else 1)
                yield Trial(image_set, sink, peer, count, images)

    def _large(self, sink: Sink, peers: tuple[Peer, ...]) -> Iterator[Trial]:
        """All objects at once, one an association; the size is the point, so it never shrinks."""
        for peer in peers:
            count = LARGE.count // (_SLOW_SHARE if peer.slow else 1)
            yield Trial(LARGE, sink, peer, count, count)


def in_turns(turns: Sequence[_Turn], rounds: int) -> Iterator[tuple[int, _Turn]]:
    """Each turn once a round with its index, every other round backwards.

    So no moment of the machine, and no place in a round, favours anybody.
    """
    forwards = list(enumerate(turns))
    for number in range(rounds):
        yield from reversed(forwards) if number % 2 else forwards
