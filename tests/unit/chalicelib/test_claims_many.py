"""Batches of several instances: what becomes of one must not depend on what happens to another."""

from contextlib import suppress
from dataclasses import replace

import pytest
from chalicelib.errors import ServiceUnavailable
from chalicelib.imports import claims, comparison
from chalicelib.imports.comparison import Comparison
from chalicelib.imports.execution import Execution
from chalicelib.imports.start import start_import
from chalicelib.stores import Stores
from chalicelib.stores import instances as ledger

from contract.batch_states import BatchEvent
from contract.checksums import Checksum
from contract.keys import DUPLICATES_PREFIX, bytes_name, manifest_key
from contract.records import InstanceState
from tests.unit.chalicelib.builders import (
    BATCH,
    BUCKET,
    NEWER_BATCH,
    NOW,
    FakeHealthImaging,
    a_context,
    a_manifest,
    instance_rows,
    keep_batch,
    keep_metadata,
    memory_stores,
    overwrite,
)
from tests.unit.chalicelib.claim_scenes import (
    FAILED,
    IMPORTED,
    RECEIVED,
    THIRD_BATCH,
    before_first_write,
    fails,
    objects_of,
    retry,
)


def many(count: int, *batch_ids: str) -> Stores:
    """Batches of the same instances with the same bytes."""
    stores = memory_stores(a_manifest(count, batch_id=batch_ids[0]))
    for batch_id in batch_ids:
        manifest = a_manifest(count, batch_id=batch_id)
        keep_batch(stores, manifest)
        for each in manifest.instances:
            objects_of(stores).bodies[BUCKET, each.key] = b"same"
            keep_metadata(stores, each)
    return stores


def aside(stores: Stores, batch_id: str) -> int:
    """How many of a batch's objects were left out as duplicates."""
    prefix = f"{DUPLICATES_PREFIX}{batch_id}"
    return sum(key.startswith(prefix) for _, key in objects_of(stores).bodies)


def with_states(stores: Stores, *states: InstanceState) -> Stores:
    """The rows of BATCH's instances, the first with the checksum of each."""
    for row, state in zip(instance_rows(a_manifest(2), RECEIVED, NOW), states, strict=True):
        image_set, reason = ("a" * 32, None) if state is IMPORTED else (None, "why")
        ended = replace(row, state=state, job_id="j", image_set_id=image_set, reason=reason)
        overwrite(stores.instances, [ended])
    return stores


def start_once(stores: Stores, batch_id: str) -> bool:
    """Whether an import was started. Raises ServiceUnavailable."""
    service = FakeHealthImaging(job_id=f"job{batch_id[9:13]}")
    execution = Execution(batch_id, BUCKET, manifest_key(batch_id))
    start_import(execution, a_context(stores, service))
    return bool(service.started)


def start_in_the_end(stores: Stores, batch_id: str) -> bool:
    """The same, with as many further tries as a state machine would make in a minute or two."""
    for _ in range(6):
        with suppress(ServiceUnavailable):
            return start_once(stores, batch_id)
    return False


def small_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """An invocation compares one instance."""
    size = a_manifest(1).instances[0].size
    monkeypatch.setattr(comparison, "MAX_BYTES", size)
    monkeypatch.setattr(claims, "Comparison", lambda files: Comparison(files, left=size))


def test_a_duplicate_stays_one_where_another_instance_is_contested() -> None:
    """Two start at once; the later one loses the race for the instance that had failed."""
    stores = with_states(many(2, BATCH, NEWER_BATCH, THIRD_BATCH), IMPORTED, FAILED)
    before_first_write(stores, lambda: start_once(stores, THIRD_BATCH))
    assert not start_once(stores, NEWER_BATCH)
    assert (aside(stores, THIRD_BATCH), aside(stores, NEWER_BATCH)) == (1, 2)


def test_what_is_to_be_compared_later_stays_so_where_another_instance_is_contested(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stores = with_states(many(2, BATCH, NEWER_BATCH), FAILED, IMPORTED)
    small_budget(monkeypatch)
    failed = next(stores.instances.by_study("1.2"))
    again = replace(failed, reason="another")
    before_first_write(stores, lambda: overwrite(stores.instances, [again]))
    with pytest.raises(ServiceUnavailable, match="still to be compared"):
        start_once(stores, NEWER_BATCH)


def imported_elsewhere(stores: Stores, batch_id: str, store: str, beside: str | None) -> None:
    """In a data store of its own."""
    manifest = a_manifest(2, batch_id=batch_id)
    rows = instance_rows(manifest, IMPORTED, NOW, datastore_id=store, job_id=f"job-{store}")
    overwrite(
        stores.instances, [replace(row, image_set_id="a" * 32, beside=beside) for row in rows]
    )


def test_what_goes_to_a_third_data_store_is_started_though_it_is_more_than_the_budget(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first row is imported into D1, the one beside it into D2: nothing is to be compared."""
    stores = many(2, BATCH, NEWER_BATCH, THIRD_BATCH)
    imported_elsewhere(stores, BATCH, "d1", None)
    imported_elsewhere(stores, NEWER_BATCH, "d2", bytes_name(str(Checksum.of(b"same")), "d2"))
    small_budget(monkeypatch)
    assert start_in_the_end(stores, THIRD_BATCH)


def test_a_retry_of_more_than_the_budget_beside_other_bytes_is_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The retry inherits first rows; other bytes, imported, stand beside them."""
    stores = many(2, BATCH)
    ledger.register(stores.instances, instance_rows(a_manifest(2), RECEIVED, NOW))
    fails(stores, BATCH)
    others = [
        replace(each, beside=str(Checksum.of(b"forged")), image_set_id="a" * 32)
        for each in instance_rows(a_manifest(2, batch_id=NEWER_BATCH), IMPORTED, NOW, job_id="j")
    ]
    overwrite(stores.instances, others)
    again = retry(stores, BATCH)
    small_budget(monkeypatch)
    batch = stores.batches.get(again)
    assert batch is not None
    assert stores.batches.move(replace(batch, admitted_at=NOW), BatchEvent.ADMITTED)
    assert start_in_the_end(stores, again)
