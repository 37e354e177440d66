"""Up to three batches of one instance and one checksum, and what becomes of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import cast

from chalicelib.imports.execution import Execution
from chalicelib.imports.failure import record_failure
from chalicelib.imports.start import start_import
from chalicelib.operations.journal import MemoryJournal
from chalicelib.operations.release import release_instance
from chalicelib.operations.repeat import Operations
from chalicelib.operations.retry import retry_batch
from chalicelib.stores import Stores
from chalicelib.stores import instances as ledger
from chalicelib.stores.memory import MemoryInstances, MemoryObjects

from contract.batch_states import BatchEvent
from contract.checksums import Checksum
from contract.keys import RowKey, bytes_name, manifest_key
from contract.manifest import Manifest
from contract.records import InstanceRecord, InstanceState
from tests.unit.chalicelib.builders import (
    BUCKET,
    DATASTORE,
    EVENT,
    NOW,
    SETTINGS,
    FakeHealthImaging,
    a_context,
    a_manifest,
    instance_rows,
    is_there,
    keep_batch,
    keep_metadata,
    memory_stores,
)

THIRD_BATCH = "20261123T095000Z-0001020304050607"
IMPORTED, FAILED, RECEIVED = (
    InstanceState.IMPORTED,
    InstanceState.FAILED,
    InstanceState.RECEIVED,
)
# What rows are named by.
FORGED, SAME = (bytes_name(str(Checksum.of(body)), DATASTORE) for body in (b"forged", b"same"))


def sent(bodies: Mapping[str, bytes], targets: Mapping[str, str] = MappingProxyType({})) -> Stores:
    """Batches of one and the same instance and checksum, each with bytes of its own.

    ``targets`` are the data stores of those that name one.
    """
    stores = memory_stores(a_manifest(1))
    for batch_id, body in bodies.items():
        manifest = a_manifest(1, targets.get(batch_id), batch_id)
        keep_batch(stores, manifest)
        objects_of(stores).bodies[BUCKET, manifest.instances[0].key] = body
        keep_metadata(stores, manifest.instances[0])
    return stores


def objects_of(stores: Stores) -> MemoryObjects:
    return cast("MemoryObjects", stores.objects)


def before_first_write(stores: Stores, then: Callable[[], object]) -> None:
    """Something is done behind the first reading of rows, and before any is written."""
    store = cast("MemoryInstances", stores.instances)
    real, waits = store.swap_many, [then]

    def swap_many(changes: Sequence[ledger.Change]) -> frozenset[RowKey]:
        if changes and waits:
            waits.pop()()
        return real(changes)

    store.swap_many = swap_many  # type: ignore[method-assign]


def manifest_of(stores: Stores, batch_id: str) -> Manifest:
    return Manifest.from_json(objects_of(stores).bodies[BUCKET, manifest_key(batch_id)])


def close(stores: Stores, batch_id: str) -> None:
    rows = instance_rows(manifest_of(stores, batch_id), RECEIVED, NOW)
    ledger.register(stores.instances, rows)


def start(stores: Stores, batch_id: str, *, skips: bool = True, default: str = DATASTORE) -> bool:
    """Whether the batch's instance was imported, and not left out."""
    execution = Execution(batch_id, BUCKET, manifest_key(batch_id))
    service = FakeHealthImaging(job_id=f"job{batch_id[9:13]}")
    changed = {"skip_duplicates": skips, "datastore_id": default}
    settings = SETTINGS.model_copy(update=changed)
    start_import(execution, a_context(stores, service, settings=settings))
    return bool(service.started)


def ends(stores: Stores, batch_id: str, state: InstanceState = IMPORTED, job_id: str = "j") -> None:
    """Its job has ended; of a failure, the object stays where it is."""
    manifest = manifest_of(stores, batch_id)
    rows = instance_rows(manifest, state, NOW, job_id=job_id, reason="why")
    image_set = "a" * 32 if state is IMPORTED else None
    placed = [replace(row, image_set_id=image_set) for row in rows]
    ledger.record(stores.instances, batch_id, placed, is_there)


def fails(stores: Stores, batch_id: str) -> None:
    """Before its job was started."""
    error = {"Error": "ImportRefused", "Cause": "{}"}
    event = EVENT | {
        "batchId": batch_id,
        "manifestKey": manifest_key(batch_id),
        "error": error,
    }
    record_failure(event, a_context(stores, FakeHealthImaging()))


def rows(stores: Stores) -> dict[str, tuple[InstanceState, str | None]]:
    """Each batch's only row."""
    found: list[InstanceRecord] = list(stores.instances.by_study("1.2"))
    assert len({row.batch_id for row in found}) == len(found)
    return {row.batch_id: (row.state, row.beside) for row in found}


def retry(stores: Stores, batch_id: str, default: str = DATASTORE) -> str:
    return retry_batch(batch_id, "why", operations(stores, default)).batch_id


def release(stores: Stores, batch_id: str, default: str = DATASTORE) -> str:
    key = manifest_of(stores, batch_id).instances[0].key
    return release_instance("1.2.3.1", "why", key, operations(stores, default)).batch_id


def operations(stores: Stores, default: str) -> Operations:
    settings = SETTINGS.model_copy(update={"datastore_id": default})
    return Operations(a_context(stores, FakeHealthImaging(), settings=settings), MemoryJournal())


def start_again(stores: Stores, batch_id: str) -> bool:
    """A batch that a retry made, admitted and started."""
    batch = stores.batches.get(batch_id)
    assert batch is not None
    assert stores.batches.move(replace(batch, admitted_at=NOW), BatchEvent.ADMITTED)
    return start(stores, batch_id)
