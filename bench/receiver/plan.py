"""Which rows a run has, in which order, and how many images each sends."""

from collections.abc import Iterator
from dataclasses import dataclass

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
from bench.receiver.sets import CT, LARGE, SETS, SMALL, ImageSet

_TO_DIRECTORY = (OURS, OURS_FLUSHED, RAW_TCP, DCMTK, DCMTK_FORK, ORTHANC, PYNETDICOM_APP)
_TO_S3 = (OURS, AWS_SAMPLE)
_LARGE_TO_DIRECTORY = (OURS, DCMTK_FORK, ORTHANC, PYNETDICOM_APP)
_SLOW_SHARE = 4
_REPEATS = 3

WAITING = "waiting"
TABLES = (*SETS, WAITING)


@dataclass(frozen=True, slots=True)
class Trial:
    """One row to measure, ``repeats`` times."""

    image_set: ImageSet
    sink: Sink
    peer: Peer
    associations: int
    images: int
    repeats: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A run: of all tables or some, with all images, or with fewer and each row once."""

    quick: bool = False
    tables: frozenset[str] = frozenset(TABLES)

    @property
    def scale(self) -> float:
        """Which part of each set is sent."""
        return 0.4 if self.quick else 1.0

    @property
    def idle_seconds(self) -> float:
        """How long idle associations are watched."""
        return 4.0 if self.quick else 10.0

    @property
    def repeats(self) -> int:
        """How often fast receivers are measured; their runs are short, so one tells little."""
        return 1 if self.quick else _REPEATS

    @property
    def waiting(self) -> bool:
        """Whether what no table of images shows is measured as well."""
        return WAITING in self.tables

    def trials(self) -> Iterator[Trial]:
        """Every row of the tables wanted."""
        return (each for each in self._all_rows() if each.image_set.name in self.tables)

    def _all_rows(self) -> Iterator[Trial]:
        for associations in (1, 4, 16):
            yield from self._table(CT, Sink.DIRECTORY, _TO_DIRECTORY, associations)
        for sink in (Sink.S3_HTTP, Sink.S3_TLS):
            for associations in (1, 4, 16):
                yield from self._table(CT, sink, _TO_S3, associations)
        for associations in (1, 4, 16):
            yield from self._table(SMALL, Sink.DIRECTORY, _TO_DIRECTORY, associations)
        yield from self._large(Sink.DIRECTORY, _LARGE_TO_DIRECTORY)
        yield from self._large(Sink.S3_HTTP, _TO_S3)

    def _table(
        self, image_set: ImageSet, sink: Sink, peers: tuple[Peer, ...], associations: int
    ) -> Iterator[Trial]:
        for peer in peers:
            if associations > peer.max_associations:
                continue
            if peer is DCMTK_FORK and associations == 1:
                continue  # the single process serves one as well
            images = int(image_set.count * self.scale) // (_SLOW_SHARE if peer.slow else 1)
            repeats = 1 if peer.slow else self.repeats
            yield Trial(image_set, sink, peer, associations, images, repeats)

    def _large(self, sink: Sink, peers: tuple[Peer, ...]) -> Iterator[Trial]:
        """All objects at once, one an association; the size is the point, so it never shrinks."""
        for peer in peers:
            count = LARGE.count // (_SLOW_SHARE if peer.slow else 1)
            yield Trial(LARGE, sink, peer, count, count, 1)
