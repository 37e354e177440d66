"""What each image costs in tables: measured on the product's own import of a small batch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from chalicelib.imports.context import ImportContext
from chalicelib.imports.execution import Execution
from chalicelib.imports.healthimaging import ImportRequest, ImportView
from chalicelib.imports.inventory import Held
from chalicelib.imports.start import start_import
from chalicelib.imports.status import check_status
from chalicelib.intake.trigger import close_batch
from chalicelib.stores import Stores, items
from chalicelib.stores.blocked import MemoryBlocked
from chalicelib.stores.files import StoredObject
from chalicelib.stores.image_sets import MemoryImageSets
from chalicelib.stores.instances import Change, Rows
from chalicelib.stores.memory import MemoryBatches, MemoryInstances, MemoryJobs, MemoryObjects
from chalicelib.stores.memory_studies import MemoryStudies
from chalicelib.stores.outbox import MemoryOutbox
from chalicelib.stores.schema import INSTANCE_TABLE

from bench.pipeline.account import BUCKET, DATASTORE, IMPORTS, RESULTS
from bench.pipeline.clock import START
from bench.pipeline.meter import Meter, write_units
from bench.pipeline.receiver import ClosedBatch
from bench.pipeline.samples import manifest_of, result_bodies
from bench.pipeline.stores import ListedFiles
from contract.batch_states import BatchEvent
from contract.keys import RowKey, manifest_key
from contract.manifest import CloseReason
from contract.records import BatchState, JobStatus

_TABLE = "instances"
_BATCH = ClosedBatch(
    "20261123T000000Z-0000000000000000", 0.0, "CT1", 50, 50 * 530_000, CloseReason.QUIET, ()
)
_PARAMS = {
    "jobName": _BATCH.batch_id,
    "datastoreId": DATASTORE,
    "dataAccessRoleArn": "",
    "inputS3Uri": "",
    "outputS3Uri": f"s3://{RESULTS}/{_BATCH.batch_id}/",
}


@dataclass(frozen=True, slots=True)
class LedgerUnits:
    """DynamoDB's units for one image, from its manifest to its results."""

    write: float
    read: float


class _MeteredInstances(MemoryInstances):
    """DicomInstanceRecordTable."""

    def __init__(self, meter: Meter) -> None:
        super().__init__()
        self._meter = meter

    def get_many(self, keys: Iterable[RowKey]) -> Rows:
        """See InstanceStore: a row that is not there is read, too."""
        wanted = list(keys)
        found = super().get_many(wanted)
        for key in wanted:
            self._meter.read(_TABLE, items.instance_row(found[key]) if key in found else {"": ""})
        return found

    def swap_many(self, changes: Sequence[Change]) -> frozenset[RowKey]:
        """See InstanceStore."""
        for was, row, beside in changes:
            if row is None or beside is not None:
                raise NotImplementedError("no batch of the benchmark has other bytes")
            before = items.instance_row(was) if was else None
            units = write_units(before, items.instance_row(row), INSTANCE_TABLE)
            self._meter.write_units[_TABLE] += units
        return super().swap_many(changes)


class _OneJob:
    """An ImportService that has completed the only job there is."""

    def start(self, request: ImportRequest) -> str:  # noqa: ARG002
        """See ImportService."""
        return "0" * 32

    def find(
        self,
        datastore_id: str,  # noqa: ARG002
        job_name: str,  # noqa: ARG002
        statuses: Sequence[JobStatus],  # noqa: ARG002
    ) -> str | None:
        """See ImportService."""
        return None

    def inventory(self, datastore_id: str, study_instance_uid: str) -> Mapping[str, Held]:  # noqa: ARG002
        """See ImportService."""
        return {}

    def keeps(self, datastore_id: str, image_set_id: str) -> bool:  # noqa: ARG002
        """See ImportService."""
        return True

    def look(self, datastore_id: str, job_id: str) -> ImportView:  # noqa: ARG002
        """See ImportService."""
        return ImportView(JobStatus.COMPLETED, _PARAMS["outputS3Uri"])


class _Sample:
    """One closed batch, over stores of its own."""

    def __init__(self, meter: Meter) -> None:
        self.objects = MemoryObjects()
        self.files = ListedFiles(self.objects, BUCKET, meter=meter)
        batches = MemoryBatches()
        studies = MemoryStudies(MemoryOutbox(batches))
        instances = _MeteredInstances(meter)
        self.stores = Stores(
            self.objects,
            MemoryJobs(),
            batches,
            instances,
            studies,
            MemoryImageSets(),
            MemoryBlocked(),
        )
        results = ListedFiles(self.objects, RESULTS, meter=meter)
        self.context = ImportContext(self.stores, self.files, results, _OneJob(), IMPORTS, START)
        self.execution = Execution(_BATCH.batch_id, BUCKET, manifest_key(_BATCH.batch_id))
        manifest = manifest_of(_BATCH, 1, START, _BATCH.files)
        self.objects.bodies[BUCKET, self.execution.manifest_key] = manifest.to_json()
        self.listed = [StoredObject(each.key, each.size, "", START) for each in manifest.instances]
        self.files.under[manifest.prefix] = self.listed

    def import_it(self) -> BatchState | None:
        """From the manifest's event to the results; the state it ends in."""
        batches = self.stores.batches
        key = self.execution.manifest_key
        if closed := close_batch(BUCKET, key, self.stores, IMPORTS.datastore_id, START):
            batches.move(closed, BatchEvent.ADMITTED)
        job_id = start_import(self.execution, self.context)["jobId"]
        for name, body in result_bodies(job_id, _PARAMS, self.listed).items():
            self.objects.bodies[RESULTS, name] = body
        check_status(self.execution, job_id, self.context)
        ended = batches.get(_BATCH.batch_id)
        return ended.state if ended else None


def ledger_units() -> LedgerUnits:
    """Import a batch, and divide."""
    meter = Meter()
    state = _Sample(meter).import_it()
    if state is not BatchState.IMPORTED:
        raise AssertionError(f"the batch is {state}")
    images = _BATCH.files
    return LedgerUnits(meter.write_units[_TABLE] / images, meter.read_units[_TABLE] / images)
