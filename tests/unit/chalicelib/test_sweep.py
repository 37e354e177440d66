"""The last look at a prefix before its import, and what the records say of what it found."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from chalicelib.imports import comparison
from chalicelib.imports.aside import duplicate_key, failed_key, unlisted_key
from chalicelib.imports.failure import record_failure
from chalicelib.imports.healthimaging import ImportView
from chalicelib.imports.start import start_import
from chalicelib.imports.status import check_status
from chalicelib.imports.sweep import MISSING, plan_sweep
from chalicelib.stores import Stores
from chalicelib.stores.files import StoredObject
from chalicelib.stores.memory import MemoryObjects
from chalicelib.stores.memory_files import MemoryFiles
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from contract.checksums import Checksum
from contract.keys import batch_prefix
from contract.records import (
    BatchState,
    Counts,
    InstanceRecord,
    InstanceState,
    JobStatus,
)
from tests.unit.chalicelib.builders import (
    BATCH,
    BUCKET,
    EVENT,
    EXECUTION,
    NEWER_BATCH,
    SETTINGS,
    FakeHealthImaging,
    a_context,
    a_manifest,
    keep_results,
    lines,
    memory_stores,
    overwrite,
    rows_by_uid,
    success,
    summary,
    the_row,
)

OLDER_BATCH = "20261123T092000Z-0001020304050607"
ONE, TWO = (each.key for each in a_manifest().instances)


@pytest.fixture
def stores() -> Stores:
    return memory_stores(a_manifest())


def bodies(stores: Stores) -> dict[tuple[str, str], bytes]:
    assert isinstance(stores.objects, MemoryObjects)
    return stores.objects.bodies


def keys(stores: Stores, prefix: str) -> set[str]:
    return {key for bucket, key in bodies(stores) if bucket == BUCKET and key.startswith(prefix)}


def start(stores: Stores, service: FakeHealthImaging, **settings: Any) -> dict[str, Any]:
    context = a_context(stores, service, settings=SETTINGS.model_copy(update=settings))
    return start_import(EXECUTION, context)


def finish(stores: Stores, service: FakeHealthImaging, *imported: str) -> None:
    service.view = ImportView(JobStatus.COMPLETED, f"s3://results/{BATCH}/")
    body = lines(*(success(key) for key in imported))
    keep_results(stores, summary=summary(len(imported)), success=body)
    check_status(EXECUTION, "job1", a_context(stores, service))


def imported_before(stores: Stores, sop: str, **changes: Any) -> InstanceRecord:
    """A row of another batch's instance, imported by a job into the same data store."""
    other = memory_stores(a_manifest(batch_id=NEWER_BATCH))
    execution = replace(EXECUTION, batch_id=NEWER_BATCH, manifest_key=f"batches/{NEWER_BATCH}.json")
    start_import(execution, a_context(other, FakeHealthImaging()))
    found = the_row(other, sop)
    row = replace(
        found,
        state=InstanceState.IMPORTED,
        batch_id=OLDER_BATCH,
        job_id="job0",
        key=found.key.replace(NEWER_BATCH, OLDER_BATCH),
        **changes,
    )
    bodies(stores)[BUCKET, row.key] = bodies(other)[BUCKET, found.key]
    job = other.jobs.get("job1")
    assert job is not None
    stores.jobs.create(replace(job, job_id="job0"))
    overwrite(stores.instances, [row])
    return row


def test_what_is_not_in_the_manifest_is_moved_away_before_the_import(
    stores: Stores, service: FakeHealthImaging
) -> None:
    late = f"{batch_prefix(BATCH)}1.2/1.2.3/1.2.3.9.dcm"
    odd = f"{batch_prefix(BATCH)}DOE^JOHN"
    bodies(stores)[BUCKET, late] = b"late"
    bodies(stores)[BUCKET, odd] = b"odd"
    service.on_start = lambda: None if keys(stores, batch_prefix(BATCH)) == {ONE, TWO} else fail()
    start(stores, service)
    assert bodies(stores)[BUCKET, f"quarantine/unlisted/{BATCH}/1.2/1.2.3/1.2.3.9.dcm"] == b"late"
    assert keys(stores, "quarantine/unlisted/") == {unlisted_key(late), unlisted_key(odd)}
    assert "^" not in unlisted_key(odd)


def fail() -> None:
    raise AssertionError("the prefix held more than the batch when the job was started")


def test_a_listed_object_that_is_missing_fails_with_its_reason(
    stores: Stores, service: FakeHealthImaging
) -> None:
    del bodies(stores)[BUCKET, TWO]
    start(stores, service)
    finish(stores, service, ONE)
    rows = rows_by_uid(stores)
    assert [row.state for row in rows.values()] == [InstanceState.IMPORTED, InstanceState.FAILED]
    assert rows["1.2.3.2"].reason == MISSING
    batch = stores.batches.get(BATCH)
    assert batch is not None
    assert (batch.state, batch.counts) == (BatchState.PARTIAL, Counts(2, imported=1, failed=1))


def test_a_batch_of_nothing_but_missing_objects_needs_no_job(
    stores: Stores, service: FakeHealthImaging
) -> None:
    for key in (ONE, TWO):
        del bodies(stores)[BUCKET, key]
    for _ in range(2):
        assert start(stores, service)["jobId"] == BATCH
    batch, job = stores.batches.get(BATCH), stores.jobs.get(BATCH)
    assert batch is not None
    assert job is not None
    assert (batch.state, job.job_status) == (BatchState.FAILED, JobStatus.FAILED)
    assert service.started == []


def test_the_end_of_a_batch_that_needs_no_job_is_told_with_its_counts_once(
    stores: Stores, service: FakeHealthImaging
) -> None:
    for key in (ONE, TWO):
        del bodies(stores)[BUCKET, key]
    with capture_logs() as told:
        for _ in range(2):
            start(stores, service)
    (line,) = [each for each in told if each["event"] == "import_ended"]
    assert (line["batch_id"], line["status"]) == (BATCH, JobStatus.FAILED)
    assert (line["ImportedInstances"], line["FailedInstances"]) == (0, 2)
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "DicomStoreScp"


def test_an_exact_duplicate_is_left_out_and_counts_as_imported(
    stores: Stores, service: FakeHealthImaging
) -> None:
    row = imported_before(stores, "1.2.3.1")
    start(stores, service)
    assert keys(stores, batch_prefix(BATCH)) == {TWO}
    assert keys(stores, "duplicates/") == {duplicate_key(ONE)}
    finish(stores, service, TWO)
    batch, job = stores.batches.get(BATCH), stores.jobs.get("job1")
    assert batch is not None
    assert job is not None
    assert (batch.state, batch.counts) == (BatchState.IMPORTED, Counts(2, 2, duplicates=1))
    assert job.counts == batch.counts
    assert the_row(stores, "1.2.3.1") == row


def test_a_batch_of_nothing_but_duplicates_needs_no_job(
    stores: Stores, service: FakeHealthImaging
) -> None:
    imported_before(stores, "1.2.3.1")
    imported_before(stores, "1.2.3.2")
    for _ in range(2):
        assert start(stores, service)["jobId"] == BATCH
    batch, job = stores.batches.get(BATCH), stores.jobs.get(BATCH)
    assert batch is not None
    assert job is not None
    assert (batch.state, batch.counts) == (BatchState.IMPORTED, Counts(2, 2, duplicates=2))
    assert (job.job_status, service.started) == (JobStatus.COMPLETED, [])
    state = check_status(EXECUTION, BATCH, a_context(stores, service))
    assert state["status"] == "COMPLETED"


def test_what_was_imported_into_another_data_store_is_no_duplicate(
    stores: Stores, service: FakeHealthImaging
) -> None:
    row = imported_before(stores, "1.2.3.1")
    overwrite(stores.instances, [replace(row, datastore_id="f" * 32)])
    start(stores, service)
    assert keys(stores, batch_prefix(BATCH)) == {ONE, TWO}


@pytest.mark.parametrize("state", [state for state in InstanceState if state != "IMPORTED"])
def test_what_was_not_imported_is_no_duplicate(
    stores: Stores, service: FakeHealthImaging, state: InstanceState
) -> None:
    row = imported_before(stores, "1.2.3.1")
    overwrite(stores.instances, [replace(row, state=state)])
    start(stores, service)
    assert keys(stores, batch_prefix(BATCH)) == {ONE, TWO}


@pytest.mark.fault("forged-checksum")
@pytest.mark.parametrize("why", ["denied", "gone", "too large"])
def test_what_cannot_be_compared_is_imported_beside_and_both_are_told(
    stores: Stores, service: FakeHealthImaging, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its retention may be over; a checksum alone would let anybody keep an image out."""
    before = imported_before(stores, "1.2.3.1")
    if why == "denied":
        objects = stores.objects
        assert isinstance(objects, MemoryObjects)
        objects.denied.add((BUCKET, before.key))
    elif why == "gone":
        del bodies(stores)[BUCKET, before.key]
    else:
        monkeypatch.setattr(comparison, "MAX_BYTES", before.size - 1)
    start(stores, service)
    finish(stores, service, ONE, TWO)
    rows = list(stores.instances.by_sop_instance("1.2.3.1"))
    assert before in rows
    (copy,) = [row for row in rows if row.batch_id == BATCH]
    assert copy.state is InstanceState.IMPORTED
    assert copy.is_copy is (why == "too large")
    assert copy.content == before.content


def test_duplicates_can_be_wanted(stores: Stores, service: FakeHealthImaging) -> None:
    imported_before(stores, "1.2.3.1")
    start(stores, service, skip_duplicates=False)
    assert keys(stores, batch_prefix(BATCH)) == {ONE, TWO}


def test_other_bytes_under_the_same_uid_are_imported_too_on_a_row_of_their_own(
    stores: Stores, service: FakeHealthImaging
) -> None:
    before = imported_before(stores, "1.2.3.1", checksum=Checksum.of(b"other bytes"))
    start(stores, service)
    finish(stores, service, ONE, TWO)
    rows = list(stores.instances.by_sop_instance("1.2.3.1"))
    assert before in rows
    assert {row.batch_id: row.state for row in rows} == {
        OLDER_BATCH: InstanceState.IMPORTED,
        BATCH: InstanceState.IMPORTED,
    }


def test_a_duplicate_stays_one_though_the_ledger_changes_behind_a_crash(
    stores: Stores, service: FakeHealthImaging
) -> None:
    row = imported_before(stores, "1.2.3.1")
    service.on_start = fail
    with pytest.raises(AssertionError):
        start(stores, service)
    overwrite(stores.instances, [replace(row, checksum=Checksum.of(b"newer"))])
    service.on_start = lambda: None
    start(stores, service)
    finish(stores, service, TWO)
    batch = stores.batches.get(BATCH)
    assert batch is not None
    assert batch.counts == Counts(2, 2, duplicates=1)


def test_what_failed_stands_in_quarantine_with_the_reason_in_the_ledger(
    stores: Stores, service: FakeHealthImaging
) -> None:
    start(stores, service)
    finish(stores, service, ONE)
    assert keys(stores, batch_prefix(BATCH)) == {ONE}
    assert keys(stores, "quarantine/") == {f"quarantine/import-failed/{TWO[len('instances/') :]}"}
    row = the_row(stores, "1.2.3.2")
    assert (row.key, row.reason) == (failed_key(TWO), "not reported by HealthImaging")


def test_all_of_a_failed_batch_but_its_duplicates_stands_in_quarantine(
    stores: Stores, service: FakeHealthImaging
) -> None:
    imported_before(stores, "1.2.3.1")
    start(stores, service)
    service.view = ImportView(JobStatus.FAILED, "s3://results/x/", "it broke")
    record_failure(EVENT, a_context(stores, service))
    assert keys(stores, batch_prefix(BATCH)) == set()
    assert keys(stores, "quarantine/") == {failed_key(TWO)}
    batch = stores.batches.get(BATCH)
    assert batch is not None
    assert batch.counts == Counts(2, imported=1, failed=1, duplicates=1)
    assert batch.state is BatchState.PARTIAL


def test_an_upload_that_nobody_completes_is_ended_before_the_prefix_is_listed(
    stores: Stores, service: FakeHealthImaging, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = begin_uploads(stores)
    real = MemoryFiles.list

    def listing(files: MemoryFiles, prefix: str, after: str = "") -> Iterator[StoredObject]:
        assert uploads == [(BUCKET, f"{batch_prefix(NEWER_BATCH)}1.2/1.2.3/1.2.3.8.dcm")]
        return real(files, prefix, after)

    monkeypatch.setattr(MemoryFiles, "list", listing)
    start(stores, service)
    assert service.started


@pytest.mark.parametrize("readable", [True, False])
def test_a_batch_that_fails_before_its_sweep_leaves_no_upload(
    stores: Stores, service: FakeHealthImaging, readable: bool
) -> None:
    uploads = begin_uploads(stores)
    if not readable:
        del bodies(stores)[BUCKET, EXECUTION.manifest_key]
    record_failure(EVENT, a_context(stores, service))
    assert uploads == [(BUCKET, f"{batch_prefix(NEWER_BATCH)}1.2/1.2.3/1.2.3.8.dcm")]


def begin_uploads(stores: Stores) -> list[tuple[str, str]]:
    """One in this batch, one in another."""
    assert isinstance(stores.objects, MemoryObjects)
    for batch_id in (BATCH, NEWER_BATCH):
        key = f"{batch_prefix(batch_id)}1.2/1.2.3/1.2.3.8.dcm"
        stores.objects.uploads.append((BUCKET, key))
    return stores.objects.uploads


def test_without_a_manifest_all_under_the_prefix_is_kept_from_expiring(
    stores: Stores, service: FakeHealthImaging
) -> None:
    del bodies(stores)[BUCKET, EXECUTION.manifest_key]
    record_failure(EVENT, a_context(stores, service))
    assert keys(stores, batch_prefix(BATCH)) == set()
    assert len(keys(stores, "quarantine/")) == 2


subsets = st.sets(st.sampled_from([each.key for each in a_manifest(6).instances] + ["x", "y"]))


@given(subsets, subsets, st.sets(st.integers(1, 6)))
def test_every_listed_instance_is_left_missing_or_a_duplicate_and_nothing_else_is_left(
    present: set[str], aside: set[str], imported: set[int]
) -> None:
    manifest = a_manifest(6)
    others = {manifest.instances[number - 1].key for number in imported}
    plan = plan_sweep(manifest, present, aside - {"x", "y"}, others)
    listed = [each.key for each in manifest.instances]
    parts = [each.key for part in (plan.left, plan.missing, plan.duplicates) for each in part]
    assert sorted(parts) == sorted(listed)
    assert present - set(plan.unlisted) - set(plan.copies) == {each.key for each in plan.left}
    assert set(plan.unlisted) == present - set(listed)
