"""The product's in-memory stores, with what their calls cost and, for a dispatcher, how long."""

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any

from chalicelib.stores import items
from chalicelib.stores.batches import BatchLine
from chalicelib.stores.files import StoredObject
from chalicelib.stores.gate import Gate
from chalicelib.stores.image_sets import MemoryImageSets
from chalicelib.stores.memory import MemoryBatches, MemoryGate, MemoryJobs, MemoryObjects
from chalicelib.stores.memory_files import MemoryFiles
from chalicelib.stores.memory_studies import MemoryStudies
from chalicelib.stores.outbox import MemoryOutbox
from chalicelib.stores.schema import BATCH_TABLE, JOB_TABLE
from chalicelib.stores.studies import Arrival

from bench.pipeline.clock import VirtualClock
from bench.pipeline.meter import Meter, read_units, write_units
from contract.batch_states import ENDED, BatchEvent
from contract.records import BatchRecord, BatchState, JobRecord

_JOBS, _BATCHES, _GATE, _STUDIES = "jobs", "batches", "gate", "studies"
# A query's page ends at 1 MB.
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Query.Pagination.html
_PAGE_BYTES = 1_048_576
# The gate's item without its list.
_GATE_BYTES = 200
# What the index by state shows of a batch.
_LINE_BYTES = 250


class MeteredJobs(MemoryJobs):
    """DicomImportJobTable."""

    def __init__(self, meter: Meter) -> None:
        super().__init__()
        self._meter = meter

    def get(self, job_id: str) -> JobRecord | None:
        """See JobStore."""
        job = super().get(job_id)
        self._meter.read(_JOBS, items.job_item(job) if job else {"": ""})
        return job

    def create(self, job: JobRecord) -> bool:
        """See JobStore."""
        self._write(job)
        return super().create(job)

    def put(self, job: JobRecord) -> bool:
        """See JobStore."""
        self._write(job)
        return super().put(job)

    def correct(self, job: JobRecord) -> bool:
        """See JobStore."""
        self._write(job)
        return super().correct(job)

    def _write(self, job: JobRecord) -> None:
        known = self.rows.get(job.job_id)
        before = items.job_row(known) if known else None
        self._meter.write_units[_JOBS] += write_units(before, items.job_row(job), JOB_TABLE)


class MeteredBatches(MemoryBatches):
    """DicomBatchRecordTable; ``ended`` is told of each batch that comes to an end."""

    def __init__(self, meter: Meter, ended: Callable[[BatchRecord], None]) -> None:
        super().__init__()
        self._meter = meter
        self._ended = ended

    def get(self, batch_id: str) -> BatchRecord | None:
        """See BatchStore."""
        batch = super().get(batch_id)
        self._meter.read(_BATCHES, items.batch_item(batch) if batch else {"": ""})
        return batch

    def move(self, batch: BatchRecord, event: BatchEvent) -> bool:
        """See BatchStore."""
        known = self.rows.get(batch.batch_id)
        moved = super().move(batch, event)
        row = self.rows.get(batch.batch_id, batch)
        self._write(known, row)
        if moved and row.state in ENDED:
            self._ended(row)
        return moved

    def _change_unstarted(self, batch_id: str, **changes: Any) -> bool:
        """Behind ``mark_start``, ``unmark_start`` and ``attach_job``."""
        known = self.rows[batch_id]
        changed = super()._change_unstarted(batch_id, **changes)
        self._write(known, self.rows[batch_id])
        return changed

    def _write(self, known: BatchRecord | None, row: BatchRecord) -> None:
        before = items.batch_row(known) if known else None
        units = write_units(before, items.batch_row(row), BATCH_TABLE)
        self._meter.write_units[_BATCHES] += units


class MeteredStudies(MemoryStudies):
    """DicomStudyTable."""

    def __init__(self, meter: Meter, outbox: MemoryOutbox) -> None:
        super().__init__(outbox)
        self._meter = meter

    def join(self, study_instance_uid: str, arrival: Arrival) -> None:
        """See StudyStore."""
        self._linked(super().join, study_instance_uid, arrival)

    def link_sender(self, study_instance_uid: str, arrival: Arrival) -> None:
        """See StudyStore."""
        self._linked(super().link_sender, study_instance_uid, arrival)

    def _linked(
        self, link: Callable[[str, Arrival], None], study_instance_uid: str, arrival: Arrival
    ) -> None:
        """An item, and its entry in the index by link where it is new."""
        before = len(self.links)
        link(study_instance_uid, arrival)
        self._meter.write_units[_STUDIES] += 1 + len(self.links) - before

    def forget(self, study_instance_uid: str) -> None:
        """Nothing asks for the study any more."""
        self.rows.pop(study_instance_uid, None)

    def link_job(self, study_instance_uid: str, list_key: str) -> None:
        """See StudyStore."""
        super().link_job(study_instance_uid, list_key)
        self._meter.write_units[_STUDIES] += 1


class MeteredImageSets(MemoryImageSets):
    """Their items in DicomBatchRecordTable, which are in none of its indexes."""

    def __init__(self, meter: Meter) -> None:
        super().__init__()
        self._meter = meter

    def note(self, image_set_id: str, study_instance_uid: str) -> None:
        """See ImageSetStore."""
        super().note(image_set_id, study_instance_uid)
        self._meter.write_units[_BATCHES] += 1

    def deleted(self, image_set_ids: Collection[str]) -> frozenset[str]:
        """See ImageSetStore."""
        self._meter.read_units[_BATCHES] += len(image_set_ids)
        return super().deleted(image_set_ids)


class DeskBatches(MeteredBatches):
    """The same table for a dispatcher, who waits for each answer and reads it with its own CPU."""

    def __init__(
        self, shared: MeteredBatches, clock: VirtualClock, call: float, per_record: float
    ) -> None:
        super().__init__(shared._meter, shared._ended)  # noqa: SLF001 - the same table
        self.rows = shared.rows
        self._clock = clock
        self._call = call
        self._per_record = per_record

    def move(self, batch: BatchRecord, event: BatchEvent) -> bool:
        """See BatchStore."""
        self._clock.sleep(self._call)
        return super().move(batch, event)

    def get(self, batch_id: str) -> BatchRecord | None:
        """See BatchStore."""
        self._clock.sleep(self._call)
        return super().get(batch_id)

    def lines(
        self, state: BatchState, limit: int | None = None, *, newest: bool = False
    ) -> Iterator[BatchLine]:
        """See BatchStore: page by page, as DynamoDB answers."""
        return self._pages(super().lines(state, limit, newest=newest))

    def _pages(self, rows: Iterator[BatchLine]) -> Iterator[BatchLine]:
        first = next(rows, None)
        size = _LINE_BYTES
        on_a_page = max(1, _PAGE_BYTES // size)
        left = [] if first is None else [first]
        while page := left + list(islice(rows, on_a_page - len(left))):
            left = []
            units = read_units(len(page) * size, consistent=False)
            self._meter.read_units[_BATCHES] += units
            self._clock.sleep(self._call + len(page) * self._per_record)
            yield from page


class DeskGate(MemoryGate):
    """The gate; only its holder waits, since nothing comes of the others' calls."""

    def __init__(self, meter: Meter, clock: VirtualClock, call: float) -> None:
        super().__init__()
        self._meter = meter
        self._clock = clock
        self._call = call

    def enter(self, holder: str, now: datetime, until: datetime) -> Gate | None:
        """See GateStore."""
        self._write()
        return super().enter(holder, now, until)

    def keep(self, holder: str, gate: Gate, until: datetime) -> bool:
        """See GateStore."""
        self._write()
        self._clock.sleep(self._call)
        return super().keep(holder, gate, until)

    def leave(self, holder: str, asked: int | None = None) -> bool:
        """See GateStore."""
        self._write()
        return super().leave(holder, asked)

    def _write(self) -> None:
        size = _GATE_BYTES + sum(len(title) + 3 for title in self.gate.recent)
        self._meter.write_units[_GATE] += math.ceil(size / 1_024)


class MeteredObjects(MemoryObjects):
    """S3, as far as it is read."""

    def __init__(self, meter: Meter) -> None:
        super().__init__()
        self._meter = meter

    def read(self, bucket: str, key: str, max_bytes: int) -> bytes:
        """See ObjectStore."""
        self._meter.s3["GET"] += 1
        return super().read(bucket, key, max_bytes)


@dataclass(frozen=True, slots=True)
class ListedFiles(MemoryFiles):
    """The DICOM bucket, whose listings are known by their prefix."""

    meter: Meter = field(default_factory=Meter)
    under: dict[str, list[StoredObject]] = field(default_factory=dict)

    def list(self, prefix: str, after: str = "") -> Iterator[StoredObject]:  # noqa: ARG002
        """See Files."""
        self.meter.s3["LIST"] += 1
        return iter(self.under.get(prefix, ()))

    def end_uploads(self, prefix: str) -> int:  # noqa: ARG002
        """See Files: there are none here, and asking is billed as any listing is."""
        self.meter.s3["LIST"] += 1
        return 0
