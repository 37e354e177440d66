"""The world of the import model: the product's own stores in memory, HealthImaging, executions."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Self

from chalicelib.imports.context import ImportContext
from chalicelib.imports.execution import Execution
from chalicelib.intake.trigger import close_batch
from chalicelib.operations.journal import MemoryJournal
from chalicelib.stores import Stores
from chalicelib.stores.blocked import MemoryBlocked
from chalicelib.stores.image_sets import MemoryImageSets
from chalicelib.stores.memory import MemoryBatches, MemoryInstances, MemoryJobs, MemoryObjects
from chalicelib.stores.memory_files import MemoryFiles
from chalicelib.stores.memory_studies import MemoryStudies
from chalicelib.stores.outbox import MemoryOutbox

from contract.batch_states import BatchEvent
from contract.checksums import Checksum
from contract.keys import InstanceKey, manifest_key, new_batch_id
from contract.manifest import CloseReason, Manifest, ManifestInstance, Source
from contract.metadata import Target, to_metadata
from contract.records import BatchState, JobStatus
from tests.model.import_imaging import Imaging
from tests.unit.chalicelib.builders import (
    BUCKET,
    DATASTORE,
    NOW,
    RESULTS,
    SENDER,
    SETTINGS,
    failed,
    keep_results,
    lines,
    success,
    summary,
)

Frozen = tuple[Any, ...]
A, B = (new_batch_id(NOW + timedelta(minutes=minute), bytes(8)) for minute in (0, 5))
_CT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"


class FrozenMap(dict[str, str]):
    """A mapping that is never changed."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(sorted(self.items())))


class Stage(NamedTuple):
    """Where a batch's execution is; ``tried``: with which error its last step ended."""

    name: str  # start, wait, record, done
    job_id: str = ""
    error: str = ""
    message: str = ""
    tried: str = ""


@dataclass(slots=True)
class Cloud:
    """All that is kept, and all that runs."""

    objects: MemoryObjects = field(default_factory=MemoryObjects)
    jobs: MemoryJobs = field(default_factory=MemoryJobs)
    batches: MemoryBatches = field(default_factory=MemoryBatches)
    instances: MemoryInstances = field(default_factory=MemoryInstances)
    image_sets: MemoryImageSets = field(default_factory=MemoryImageSets)
    journal: MemoryJournal = field(default_factory=MemoryJournal)
    imaging: Imaging = field(default_factory=Imaging)
    executions: dict[str, Stage] = field(default_factory=dict)
    wanted: set[str] = field(default_factory=set)  # sent again, and what there was is deleted
    minutes: int = 10  # each batch that is made takes one, so that ids tell which is newer

    def freeze(self) -> Frozen:
        """The same value for the same cloud."""
        metadata = {key: FrozenMap(each) for key, each in self.objects.metadata.items()}
        imaging = self.imaging
        return (
            frozenset(self.objects.bodies.items()),
            frozenset(metadata.items()),
            _items(self.jobs.rows),
            _items(self.batches.rows),
            _items(self.instances.rows),
            _items(self.image_sets.rows),
            _items(self.journal.entries),
            _items(imaging.jobs),
            frozenset(imaging.forgotten),
            frozenset(imaging.deleted),
            frozenset(imaging.told),
            imaging.is_listed,
            _items(self.executions),
            frozenset(self.wanted),
            self.minutes,
        )

    @classmethod
    def thaw(cls, frozen: Frozen) -> Self:
        """A cloud that may change, from a value."""
        bodies, metadata, jobs, batches, instances, image_sets, journal, *rest = frozen
        started, forgotten, deleted, told, is_listed, executions, wanted, minutes = rest
        imaging = Imaging(dict(started), set(forgotten), set(deleted), set(told), is_listed)
        cloud = cls(imaging=imaging, executions=dict(executions), wanted=set(wanted))
        cloud.minutes = minutes
        cloud.objects.bodies, cloud.objects.metadata = dict(bodies), dict(metadata)
        cloud.jobs.rows, cloud.batches.rows = dict(jobs), dict(batches)
        cloud.instances.rows, cloud.image_sets.rows = dict(instances), dict(image_sets)
        cloud.journal.entries = dict(journal)
        return cloud

    @property
    def now(self) -> datetime:
        return at(self.minutes)

    @property
    def stores(self) -> Stores:
        """Of studies, which announce what has happened, nothing is kept."""
        studies = MemoryStudies(MemoryOutbox(self.batches))
        return Stores(
            self.objects,
            self.jobs,
            self.batches,
            self.instances,
            studies,
            self.image_sets,
            MemoryBlocked(),
        )

    @property
    def context(self) -> ImportContext:
        """What a step of an import works with."""
        files, results = (MemoryFiles(self.objects, bucket) for bucket in (BUCKET, RESULTS))
        return ImportContext(self.stores, files, results, self.imaging, SETTINGS, self.now)

    def send(self, batch_id: str, uids: Iterable[str]) -> None:
        """The receiver stores instances, whose bytes are told by their UIDs, and the manifest."""
        instances = tuple(self._stored(batch_id, uid) for uid in uids)
        source = Source("CT1", "STORESCP", ("10.0.0.1",), ("a1",))
        manifest = Manifest(batch_id, NOW, CloseReason.QUIET, source, None, instances)
        self.objects.bodies[BUCKET, manifest_key(batch_id)] = manifest.to_json()
        self.admit(batch_id)

    def _stored(self, batch_id: str, uid: str) -> ManifestInstance:
        key, body = InstanceKey(batch_id, "1.2", "1.2.3", uid), uid.encode()
        checksum, target = Checksum.of(body), Target("study")
        self.objects.bodies[BUCKET, str(key)] = body
        told = to_metadata(key, *_CT, None, checksum, SENDER, target)
        self.objects.metadata[BUCKET, str(key)] = FrozenMap(told)
        return ManifestInstance(
            str(key), len(body), checksum, _CT[0], uid, "1.2.3", "1.2", None, _CT[1]
        )

    def delete(self, job_id: str) -> None:
        """Somebody deletes what a job has made."""
        job = self.imaging.jobs[job_id]
        self.imaging.deleted.add(job.image_set_id)
        self.wanted.difference_update(job.uids)

    def waiting(self) -> Iterator[str]:
        """The batches whose manifest's event, or turn, is to come."""
        for batch_id, batch in self.batches.rows.items():
            is_written = (BUCKET, manifest_key(batch_id)) in self.objects.bodies
            if batch.state is BatchState.CLOSED or (batch.state is BatchState.OPEN and is_written):
                yield batch_id

    def stalled(self) -> Iterator[str]:
        """The batches whose execution ended before them: another is started."""
        for batch_id, batch in self.batches.rows.items():
            is_done = self.executions.get(batch_id, Stage("done")).name == "done"
            if is_done and batch.state is BatchState.IMPORTING:
                yield batch_id

    def waits_for_the_list(self) -> bool:
        """RecordFailure waits until it shows what it has, which it does within the hour."""
        stages = self.executions.values()
        is_shown = all(job.listed for job in self.imaging.jobs.values())
        return is_shown and any(stage.name == "record" and stage.tried for stage in stages)

    def pass_an_hour(self) -> None:
        """What has waited is tried again."""
        self.minutes += 60
        stages = self.executions.items()
        self.executions = {batch_id: stage._replace(tried="") for batch_id, stage in stages}

    def admit(self, batch_id: str) -> None:
        """The event of the manifest; the batch's turn comes at once."""
        batch = self.batches.get(batch_id)
        if batch is None or batch.state is BatchState.OPEN:
            batch = close_batch(BUCKET, manifest_key(batch_id), self.stores, DATASTORE, self.now)
        assert batch is not None
        self.batches.move(replace(batch, admitted_at=self.now), BatchEvent.ADMITTED)
        self.executions[batch_id] = Stage("start")
        self.minutes += 1

    def begin(self, job_id: str) -> None:
        """HealthImaging begins a job."""
        keys = sorted(key for bucket, key in self.objects.bodies if bucket == BUCKET)
        self.imaging.begin(job_id, keys)

    def end(self, job_id: str, status: JobStatus, refused: tuple[str, ...] = ()) -> None:
        """HealthImaging ends a job; it may take some of what it read for no DICOM."""
        job = self.imaging.jobs[job_id]
        lied = job.status is JobStatus.FAILED
        self.imaging.jobs[job_id] = replace(job, status=status, refused=refused, lied=lied)

    def write_results(self, job_id: str, results: int = 2) -> None:
        """HealthImaging writes a job's result files: its summary first, if there are two steps."""
        job = self.imaging.jobs[job_id]
        took = {InstanceKey.parse(key).sop_instance_uid: key for key in job.took or ()}
        said = [success(took[uid], job.image_set_id) for uid in job.uids]
        files = {"summary": summary(len(said), len(job.refused))}
        if results > 1:
            refused = [failed(took[uid]) for uid in job.refused]
            files |= {"success": lines(*said), "failure": lines(*refused)}
        keep_results(self.stores, batch_id=job.batch_id, job_id=job_id, **files)
        self.imaging.jobs[job_id] = replace(job, results=results)


def at(minutes: int) -> datetime:
    return NOW + timedelta(minutes=minutes)


def execution(batch_id: str) -> Execution:
    return Execution(batch_id, BUCKET, manifest_key(batch_id), "arn:x")


def _items(rows: Mapping[Any, Any]) -> Frozen:
    return tuple(sorted(rows.items())) if len(rows) > 1 else tuple(rows.items())
