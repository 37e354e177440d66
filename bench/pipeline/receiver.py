"""What the receivers make of studies: the product's own book of batches, image by image."""

import functools
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import count

from store_scp.batches import BatchBook, BatchLimits
from store_scp.instance import Instance, Route
from store_scp.settings import Settings

from bench.pipeline.clock import START
from bench.pipeline.hospital import Study, seconds_per_image
from contract.checksums import Checksum
from contract.header import Header
from contract.keys import BATCH_ENTROPY_BYTES, new_batch_id
from contract.manifest import CloseReason, Manifest, ManifestInstance
from contract.metadata import Sender

_CHECKSUM = Checksum.crc64nvme(0)
_CLASS = "1.2.840.10008.5.1.4.1.1.2"
_SYNTAX = "1.2.840.10008.1.2.1"


@dataclass(frozen=True, slots=True)
class ClosedBatch:
    """A batch at the moment its manifest is written.

    ``associations`` are those that held it, each by its study's number and its own.
    """

    batch_id: str
    closed_at: float
    calling_ae_title: str
    files: int
    size: int
    reason: CloseReason
    associations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Image(Instance):
    """An instance whose entry tells its size only: a day of them is made for their number."""

    def entry(self, batch_id: str, size: int, checksum: Checksum) -> ManifestInstance:  # noqa: ARG002
        return _listed(size)


@functools.cache
def _listed(size: int) -> ManifestInstance:
    return ManifestInstance("", size, _CHECKSUM, _CLASS, "1", "1", "1", None, _SYNTAX)


def default_limits() -> BatchLimits:
    """Those of a receiver without any setting."""
    settings = Settings.from_env({"DICOM_BUCKET": "dicom"})
    return BatchLimits(
        quiet_seconds=settings.batch_quiet_seconds,
        held_quiet_seconds=settings.batch_held_quiet_seconds,
        max_files=settings.batch_max_files,
        max_bytes=settings.batch_max_bytes,
        max_metadata_bytes=settings.batch_max_metadata_bytes,
        max_age_seconds=settings.batch_max_age_seconds,
        max_instance_bytes=settings.max_instance_bytes,
    )


def association_id(study: Study, number: int) -> str:
    """The name of a study's association."""
    return f"{study.number}/{number}"


def association_ends(study: Study) -> dict[str, float]:
    """When each of a study's associations ended."""
    return {
        association_id(study, number): each.begins + each.images * seconds_per_image(study.size)
        for number, each in enumerate(study.associations)
    }


def batches(
    studies: Iterable[Study], limits: BatchLimits, workers: int, seed: int
) -> Iterator[ClosedBatch]:
    """Every batch of the studies, each study's in the order they close.

    Batches of two studies know nothing of each other, so each study has books of its own: one for
    each worker, since the load balancer knows nothing of studies.
    """
    rng = random.Random(seed)  # noqa: S311
    for study in studies:
        yield from _Books(study, limits, workers, rng).run()


class _Books:
    """One study's batches in all workers."""

    def __init__(self, study: Study, limits: BatchLimits, workers: int, rng: random.Random) -> None:
        self._study = study
        self._rng = rng
        self._now = 0.0
        self._books = [BatchBook(limits, self._new_id) for _ in range(workers)]
        self._route = Route(by_study=True)

    def run(self) -> Iterator[ClosedBatch]:
        """Send every association into some worker."""
        for number, each in enumerate(self._study.associations):
            yield from self._due_before(each.begins)
            book = self._rng.choice(self._books)
            sender = Sender(
                self._study.calling_ae_title, "STORESCP", "", association_id(self._study, number)
            )
            yield from self._send(book, sender, each.begins, each.images)
            book.association_ended(sender.association_id)
        while any(not book.is_empty for book in self._books):
            yield from self._due_before(min(book.next_due() for book in self._books))

    def _send(
        self, book: BatchBook, sender: Sender, begins: float, images: int
    ) -> Iterator[ClosedBatch]:
        study, step = self._study, seconds_per_image(self._study.size)
        for number in range(images):
            self._now = begins + (number + 1) * step
            header = Header(
                _CLASS, f"{sender.association_id}/{number}", str(study.number), "", None
            )
            image = _Image(header, _SYNTAX, sender, self._route)
            placement = book.place(image, self._now, study.size)
            if book.stored(placement, self._now, study.size, _CHECKSUM) <= self._now:
                yield from self._close(book, self._now)

    def _due_before(self, moment: float) -> Iterator[ClosedBatch]:
        for book in self._books:
            while (due := book.next_due()) <= moment:
                yield from self._close(book, max(due, self._now))

    def _close(self, book: BatchBook, now: float) -> Iterator[ClosedBatch]:
        for manifest in book.due(now, START + timedelta(seconds=now)):
            book.manifest_written(manifest.batch_id)
            yield _closed(manifest, now)

    def _new_id(self) -> str:
        entropy = self._rng.randbytes(BATCH_ENTROPY_BYTES)
        return new_batch_id(START + timedelta(seconds=self._now), entropy)


def _closed(manifest: Manifest, now: float) -> ClosedBatch:
    return ClosedBatch(
        manifest.batch_id,
        now,
        manifest.source.calling_ae_title,
        len(manifest.instances),
        sum(each.size for each in manifest.instances),
        manifest.close_reason,
        manifest.source.association_ids,
    )


def mixed_batches(studies: Iterable[Study], limits: BatchLimits) -> Iterator[ClosedBatch]:
    """What BATCH_BY=mixed makes of studies that a migration sends without a pause."""
    ids = (new_batch_id(START, number.to_bytes(BATCH_ENTROPY_BYTES, "big")) for number in count())
    book = BatchBook(limits, lambda: next(ids))
    sender = Sender("MIGRATION", "STORESCP", "", "migration")
    for study in studies:
        for number in range(study.images):
            header = Header(_CLASS, f"{study.number}.{number}", str(study.number), "", None)
            image = _Image(header, _SYNTAX, sender, Route(by_study=False))
            placement = book.place(image, 0.0, study.size)
            book.stored(placement, 0.0, study.size, _CHECKSUM)
            if book.open_batches == 1:
                continue
            for manifest in book.due(0.0, START):
                book.manifest_written(manifest.batch_id)
                yield _closed(manifest, 0.0)


def renamed(batch: ClosedBatch, number: int, closed_at: float) -> ClosedBatch:
    """The same batch again, at another time."""
    entropy = number.to_bytes(BATCH_ENTROPY_BYTES, "big")
    opened_at = START + timedelta(seconds=closed_at)
    return replace(
        batch, batch_id=new_batch_id(opened_at, entropy), closed_at=closed_at, associations=()
    )
