"""RecordFailure beside others who write the same rows, and once more after it has died half way."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from chalicelib.errors import ObjectDenied
from chalicelib.imports.aside import duplicate_key
from chalicelib.imports.context import ImportContext
from chalicelib.imports.failure import record_failure
from chalicelib.imports.outcomes import read_outcomes
from chalicelib.stores import Stores
from chalicelib.stores.instances import Change, Rows, register
from chalicelib.stores.memory import MemoryBatches, MemoryInstances, MemoryObjects
from chalicelib.stores.memory_files import MemoryFiles

from contract.keys import RowKey
from contract.records import Counts, InstanceRecord, InstanceState, JobRecord, JobStatus
from tests.unit.chalicelib.builders import (
    BATCH,
    BUCKET,
    EVENT,
    EXECUTION,
    NOW,
    FakeHealthImaging,
    a_context,
    a_manifest,
    files_of,
    instance_rows,
    keep_metadata,
    overwrite,
    rows_by_uid,
    the_row,
)
from tests.unit.chalicelib.calls import Calls, Crash, die
from tests.unit.chalicelib.steps import fail, start


def a_job(stores: Stores, job_id: str) -> JobRecord:
    job = stores.jobs.get(job_id)
    assert job is not None
    return job


def import_rows(stores: Stores, *sop_instance_uids: str) -> None:
    """As a completion writes them that dies behind its first write."""
    rows = [the_row(stores, each) for each in sop_instance_uids]
    overwrite(
        stores.instances,
        [replace(row, state=InstanceState.IMPORTED, reason=None) for row in rows],
    )


def outcomes(stores: Stores, job_id: str) -> list[InstanceState] | None:
    found = read_outcomes(stores.objects, BUCKET, a_job(stores, job_id))
    return None if found is None else [each.row.state for each in found]


def test_outcomes_are_kept_by_the_end_that_the_jobs_record_has(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first try may not write them and dies behind the batch; the second finds other counts."""

    def denied(files: MemoryFiles, key: str, body: bytes) -> bool:
        raise ObjectDenied("PutObject: AccessDenied")

    with monkeypatch.context() as patch:
        patch.setattr(MemoryFiles, "create", denied)
        # Behind two reads of the batch, and its end.
        dying = replace(stores, batches=Calls({2: die}).port(stores.batches))
        with pytest.raises(Crash):
            record_failure(EVENT, a_context(dying, FakeHealthImaging()))
    assert stores.jobs.get(BATCH) is None
    import_rows(stores, "1.2.3.1", "1.2.3.2")
    record_failure(EVENT, a_context(stores, FakeHealthImaging()))
    job = a_job(stores, BATCH)
    assert (job.job_status, job.counts) == (JobStatus.FAILED, Counts(2, failed=2))
    assert outcomes(stores, BATCH) == [InstanceState.IMPORTED] * 2


def import_while_failing(stores: Stores, patch: pytest.MonkeyPatch, *uids: str) -> None:
    """The same behind the first look at the rows, and before their failure is written."""
    record = ImportContext.record

    def behind(context: ImportContext, *given: Any, **more: Any) -> list[InstanceRecord]:
        import_rows(stores, *uids)
        return record(context, *given, **more)

    patch.setattr(ImportContext, "record", behind)


@pytest.mark.parametrize("is_late", [False, True], ids=["before", "while"])
def test_what_another_records_as_imported_is_imported_before_and_while_a_failure_is_written(
    stores: Stores, service: FakeHealthImaging, monkeypatch: pytest.MonkeyPatch, is_late: bool
) -> None:
    start(stores, service)
    if is_late:
        import_while_failing(stores, monkeypatch, "1.2.3.1")
    else:
        import_rows(stores, "1.2.3.1")
    fail(stores)
    assert a_job(stores, "job1").counts == Counts(2, imported=1, failed=1)
    states = [InstanceState.IMPORTED, InstanceState.FAILED]
    assert outcomes(stores, "job1") == states
    assert [row.state for row in rows_by_uid(stores).values()] == states
    one = a_manifest(2).instances[0].key
    assert [each.key for each in files_of(stores).list("instances/")] == [one]


def test_what_is_imported_counts_once_though_a_copy_of_it_is_aside(
    stores: Stores, service: FakeHealthImaging
) -> None:
    """Its start died behind the move of a duplicate; somebody has copied the object back."""
    start(stores, service)
    one = a_manifest(2).instances[0].key
    files_of(stores).put(duplicate_key(one), b"the same")
    import_rows(stores, "1.2.3.1")
    fail(stores)
    assert a_job(stores, "job1").counts == Counts(2, imported=1, failed=1)
    assert outcomes(stores, "job1") == [InstanceState.IMPORTED, InstanceState.FAILED]


def test_a_row_that_is_gone_since_the_try_that_ended_the_batch_is_not_written_again(
    stores: Stores,
) -> None:
    dying = replace(stores, batches=Calls({2: die}).port(stores.batches))
    with pytest.raises(Crash):
        record_failure(EVENT, a_context(dying, FakeHealthImaging()))
    gone = the_row(stores, "1.2.3.1")
    stores.instances.swap_many([Change(gone, None)])
    record_failure(EVENT, a_context(stores, FakeHealthImaging()))
    assert rows_by_uid(stores).keys() == {"1.2.3.2"}
    assert a_job(stores, BATCH).counts == Counts(2, failed=2)


def test_each_row_is_read_once_to_see_what_is_imported_and_once_to_write_it(
    stores: Stores, service: FakeHealthImaging, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Counter[RowKey]()
    get_many = MemoryInstances.get_many

    def counted(store: MemoryInstances, keys: Iterable[RowKey]) -> Rows:
        wanted = list(keys)
        asked.update(wanted)
        return get_many(store, wanted)

    start(stores, service)
    monkeypatch.setattr(MemoryInstances, "get_many", counted)
    fail(stores)
    assert asked == {each.row_key: 2 for each in a_manifest(2).instances}


@pytest.mark.parametrize("is_readable", [True, False], ids=["in part", "nothing to be read"])
def test_what_is_imported_and_in_no_manifest_any_more_has_not_failed(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, is_readable: bool
) -> None:
    """Manifest and object are gone while a completion that has read them writes its row."""
    one, two = a_manifest(2).instances
    register(stores.instances, instance_rows(a_manifest(2), InstanceState.RECEIVED, NOW))
    assert isinstance(stores.objects, MemoryObjects)
    assert isinstance(stores.batches, MemoryBatches)
    stores.batches.rows[BATCH] = replace(stores.batches.rows[BATCH], counts=Counts(0))
    del stores.objects.bodies[BUCKET, EXECUTION.manifest_key]
    del stores.objects.bodies[BUCKET, two.key]
    if is_readable:
        keep_metadata(stores, one)
    else:
        stores.objects.denied.add((BUCKET, one.key))
    import_while_failing(stores, monkeypatch, two.sop_instance_uid)
    record_failure(EVENT, a_context(stores, FakeHealthImaging()))
    assert a_job(stores, BATCH).counts == Counts(2, imported=1, failed=1)
