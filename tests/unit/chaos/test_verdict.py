"""Each planted violation is found, and nothing is found where nothing is wrong."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contract.batch_states import ENDED
from contract.checksums import Checksum
from contract.keys import InstanceKey
from contract.manifest import CloseReason, Manifest, ManifestInstance, Source
from contract.records import (
    BatchRecord,
    BatchState,
    Counts,
    InstanceRecord,
    InstanceState,
    JobRecord,
    JobStatus,
)
from tests.chaos.facts import Copy, Evidence, Promise, ServiceJob, StoredObject, Told
from tests.chaos.ledger import Sent
from tests.chaos.verdict import late_objects, unretried, violations

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
BATCH, OTHER = (f"20261123T09300{digit}Z-0001020304050607" for digit in range(2))
IMPORTED, FAILED, AGAIN = "1.2.3.1", "1.2.3.2", "1.2.3.3"
CHECKSUM = Checksum.of(b"bytes")
OTHER_BYTES = Checksum.of(b"other bytes")
IMAGE_SET = "a" * 32
ROWS = {
    IMPORTED: (InstanceState.IMPORTED, None),
    FAILED: (InstanceState.FAILED, "HealthImaging says so"),
}


def key(uid: str, batch_id: str = BATCH) -> InstanceKey:
    return InstanceKey(batch_id, "1.2", "1.2.3", uid)


def row(uid: str, state: InstanceState, reason: str | None = None) -> InstanceRecord:
    stands = key(uid).quarantined("import-failed") if state is InstanceState.FAILED else key(uid)
    return InstanceRecord(
        uid, "1.2", "1.2.3", "1.2.840.10008.5.1.4.1.1.2", BATCH, str(stands), 5, CHECKSUM,
        state, NOW, job_id="job", reason=reason,
        image_set_id=IMAGE_SET if state is InstanceState.IMPORTED else None,
    )  # fmt: skip


def copy(uid: str = IMPORTED, minutes: int = 0, deleted: int | None = None, **more: Any) -> Copy:
    """Stored so many minutes after the first, and deleted."""
    deleted_at = None if deleted is None else NOW + timedelta(minutes=deleted)
    stored_at = NOW + timedelta(minutes=minutes)
    return replace(Copy(uid, CHECKSUM, IMAGE_SET, stored_at, deleted_at), **more)


def manifest(batch_id: str, *uids: str) -> Manifest:
    instances = [
        ManifestInstance(
            str(key(uid, batch_id)), 5, CHECKSUM, "1.2.840.10008.5.1.4.1.1.2", uid, "1.2.3", "1.2",
            None, "1.2.840.10008.1.2.1",
        )
        for uid in uids
    ]  # fmt: skip
    source = Source("CT1", "STORESCP", ("10.0.0.1",), ("a1",))
    return Manifest(batch_id, NOW, CloseReason.QUIET, source, None, tuple(instances))


def batch(batch_id: str, state: BatchState, counts: Counts) -> BatchRecord:
    return BatchRecord(
        batch_id, state, "CT1", NOW, counts, closed_at=NOW, admitted_at=NOW, ended_at=NOW
    )


def a_good_run() -> Evidence:
    """One batch with an imported and a failed instance, one of nothing but a duplicate."""
    job = JobRecord(
        "job", JobStatus.COMPLETED, BATCH, "d", "r", "s3://in/", "s3://out/", NOW, "CT1",
        Counts(2, 1, 1),
    )  # fmt: skip
    keys = (
        str(key(IMPORTED)),
        key(FAILED).quarantined("import-failed"),
        key(IMPORTED, OTHER).duplicate(),
    )
    return Evidence(
        sent={IMPORTED: Sent(2), FAILED: Sent(1), AGAIN: Sent(unanswered=1)},
        copies=[copy()],
        service_jobs=[ServiceJob("job", BATCH, JobStatus.COMPLETED)],
        imported_keys=[str(key(IMPORTED))],
        instances={uid: row(uid, *told) for uid, told in ROWS.items()},
        batches={
            BATCH: batch(BATCH, BatchState.PARTIAL, Counts(2, 1, 1)),
            OTHER: batch(OTHER, BatchState.IMPORTED, Counts(1, 1, 0, duplicates=1)),
        },
        jobs={"job": job},
        manifests={BATCH: manifest(BATCH, IMPORTED, FAILED), OTHER: manifest(OTHER, IMPORTED)},
        objects=[StoredObject(each, NOW - timedelta(minutes=1)) for each in keys],
        uploads=[],
        reported=frozenset(),
        told=frozenset(
            {Told(BATCH, BatchState.PARTIAL, NOW), Told(OTHER, BatchState.IMPORTED, NOW)}
        ),
    )


def found(evidence: Evidence) -> set[Promise]:
    return {each.promise for each in violations(evidence)}


def with_row(evidence: Evidence, changed: InstanceRecord) -> Evidence:
    rows = {**evidence.instances, changed.sop_instance_uid: changed}
    return replace(evidence, instances=rows)


def with_object(evidence: Evidence, key: str, modified_at: datetime = NOW) -> Evidence:
    return replace(evidence, objects=[*evidence.objects, StoredObject(key, modified_at)])


def test_a_good_run_has_no_violation() -> None:
    assert violations(a_good_run()) == []


def test_a_failed_instance_without_its_object_cannot_be_retried() -> None:
    run = a_good_run()
    left = [each for each in run.objects if FAILED not in each.key]
    assert found(replace(run, objects=left)) == {Promise.GONE}


def test_an_acknowledged_instance_without_a_row_is_lost() -> None:
    run = a_good_run()
    assert found(replace(run, sent={**run.sent, AGAIN: Sent(acknowledged=1)})) == {Promise.LOST}


def test_a_row_without_an_end_is_found() -> None:
    open_row = row(FAILED, InstanceState.RECEIVED)
    assert found(with_row(a_good_run(), open_row)) == {Promise.UNFINISHED_INSTANCE}


def test_a_failure_without_a_reason_is_found() -> None:
    assert found(with_row(a_good_run(), row(FAILED, InstanceState.FAILED))) == {Promise.NO_REASON}


@pytest.mark.parametrize(
    "copies",
    [
        [],
        [copy(image_set_id="b" * 32)],
        [copy(checksum=OTHER_BYTES)],
        [copy(is_latest=False)],
        [copy(deleted=1)],
    ],
)
def test_an_instance_reported_imported_that_healthimaging_lacks_is_found(
    copies: list[Copy],
) -> None:
    """In the row's own image set, as it is now."""
    assert Promise.NOT_IN_HEALTHIMAGING in found(replace(a_good_run(), copies=copies))


def test_an_instance_that_its_own_batch_imported_and_reports_failed_is_found() -> None:
    changed = row(IMPORTED, InstanceState.FAILED, "the results were late")
    run = with_object(with_row(a_good_run(), changed), changed.key)
    assert found(run) == {Promise.IMPORTED_AND_FAILED, Promise.NOT_IN_LEDGER}
    assert found(replace(run, copies=[copy(deleted=1)])) == {Promise.IMPORTED_AND_FAILED}


def test_a_row_of_an_image_set_that_is_gone_says_so() -> None:
    gone = replace(row(IMPORTED, InstanceState.DELETED), image_set_id=IMAGE_SET)
    run = with_row(a_good_run(), gone)
    assert found(replace(run, copies=[copy(deleted=1)])) == set()
    assert found(run) == {Promise.NOT_DELETED, Promise.NOT_IN_LEDGER}


def test_a_second_import_is_found_with_both_batches() -> None:
    run = replace(a_good_run(), copies=[copy(is_latest=False), copy(minutes=1)])
    run = replace(run, imported_keys=[*run.imported_keys, str(key(IMPORTED, OTHER))])
    twice = [each for each in violations(run) if each.promise is Promise.IMPORTED_TWICE]
    assert [each.subject for each in twice] == [IMPORTED]
    assert BATCH in twice[0].detail
    assert OTHER in twice[0].detail


def test_what_was_deleted_may_be_sent_and_imported_again() -> None:
    again = replace(a_good_run(), copies=[copy(deleted=1), copy(minutes=2)])
    assert found(again) == set()
    before = [copy(deleted=3), copy(minutes=2)]
    assert found(replace(again, copies=before)) == {Promise.IMPORTED_TWICE}


def test_what_was_deleted_is_not_imported_again_by_itself() -> None:
    run = replace(a_good_run(), copies=[copy(deleted=1), copy(minutes=2)])
    once = {**run.sent, IMPORTED: Sent(1, refused=5)}
    assert found(replace(run, sent=once)) == {Promise.IMPORTED_TWICE}


def with_two_versions() -> Evidence:
    """Both imported: the newer's row names the older."""
    run = a_good_run()
    newer = manifest(OTHER, IMPORTED)
    (listed,) = newer.instances
    listed = replace(listed, checksum=OTHER_BYTES)
    told = replace(
        row(IMPORTED, InstanceState.IMPORTED),
        batch_id=OTHER, key=listed.key, checksum=listed.checksum,
        conflicts=(str(key(IMPORTED)),), image_set_id="b" * 32,
    )  # fmt: skip
    run = replace(
        run,
        sent={**run.sent, IMPORTED: Sent(2, versions=2, kept=2)},
        copies=[copy(), copy(minutes=1, image_set_id="b" * 32, checksum=OTHER_BYTES)],
        imported_keys=[*run.imported_keys, listed.key],
        manifests={**run.manifests, OTHER: replace(newer, instances=(listed,))},
        batches={**run.batches, OTHER: batch(OTHER, BatchState.IMPORTED, Counts(1, 1, 0))},
        objects=[each for each in run.objects if not each.key.startswith("duplicates/")],
    )
    return with_row(run, told)


def test_two_versions_of_an_instance_are_both_imported() -> None:
    assert violations(with_two_versions()) == []


def test_an_imported_version_that_the_ledger_does_not_name_is_found() -> None:
    run = with_two_versions()
    unnamed = replace(run.instances[IMPORTED], conflicts=())
    assert found(with_row(run, unnamed)) == {Promise.UNNAMED, Promise.NOT_IN_LEDGER}


def test_one_of_two_versions_may_be_deleted() -> None:
    run = with_two_versions()
    older, newer = run.copies
    minute = NOW + timedelta(minutes=3)
    assert found(replace(run, copies=[replace(older, deleted_at=minute), newer])) == set()
    deleted = replace(run.instances[IMPORTED], state=InstanceState.DELETED)
    run = replace(run, copies=[older, replace(newer, deleted_at=minute)])
    assert found(with_row(run, deleted)) == set()


def test_a_version_that_was_acknowledged_and_is_in_no_batch_is_lost() -> None:
    run = with_two_versions()
    sent = {**run.sent, IMPORTED: Sent(3, versions=3, kept=3)}
    assert found(replace(run, sent=sent)) == {Promise.LOST}


def test_what_was_never_sent_is_found_in_the_ledger_and_in_healthimaging() -> None:
    run = a_good_run()
    sent = {uid: each for uid, each in run.sent.items() if uid != FAILED}
    assert found(replace(run, sent=sent)) == {Promise.NEVER_SENT}
    strange = replace(run, copies=[*run.copies, copy("9.9")])
    assert Promise.NEVER_SENT in found(strange)


def test_what_healthimaging_has_without_a_row_is_found() -> None:
    run = a_good_run()
    assert found(replace(run, copies=[*run.copies, copy(AGAIN)])) == {Promise.NOT_IN_LEDGER}


def test_what_healthimaging_imported_and_no_manifest_lists_is_found() -> None:
    run = a_good_run()
    imported = [*run.imported_keys, str(key(AGAIN))]
    broken = found(replace(run, imported_keys=imported))
    assert broken == {Promise.UNLISTED, Promise.MISCOUNTED}


@pytest.mark.parametrize("state", sorted(set(BatchState) - ENDED))
def test_a_batch_without_an_end_is_found(state: BatchState) -> None:
    run = a_good_run()
    batches = {**run.batches, BATCH: replace(run.batches[BATCH], state=state)}
    assert found(replace(run, batches=batches)) == {Promise.UNFINISHED_BATCH}


def test_a_job_without_an_end_is_found() -> None:
    run = a_good_run()
    running = replace(run.jobs["job"], job_status=JobStatus.IN_PROGRESS)
    broken = found(replace(run, jobs={"job": running}))
    assert broken == {Promise.UNFINISHED_JOB, Promise.UNTRUE_JOB}


def test_a_second_job_of_a_batch_is_found_unless_the_first_failed() -> None:
    run = a_good_run()
    for status, broken in (
        (JobStatus.FAILED, set()),
        (JobStatus.COMPLETED, {Promise.TWO_JOBS, Promise.UNKNOWN_JOB}),
    ):
        jobs = [ServiceJob("first", BATCH, status), *run.service_jobs]
        assert found(replace(run, service_jobs=jobs)) == broken


def test_a_job_that_is_recorded_otherwise_than_healthimaging_has_it_is_found() -> None:
    run = a_good_run()
    failed = replace(run, service_jobs=[ServiceJob("job", BATCH, JobStatus.FAILED)])
    assert found(failed) == {Promise.UNTRUE_JOB}
    assert found(replace(run, service_jobs=[])) == {Promise.UNTRUE_JOB}


def test_a_job_that_only_healthimaging_knows_is_found() -> None:
    run = a_good_run()
    own = replace(run.jobs["job"], job_id=BATCH, job_status=JobStatus.FAILED)
    assert found(replace(run, jobs={BATCH: own})) == {Promise.UNKNOWN_JOB}
    assert found(replace(run, jobs={BATCH: own}, service_jobs=[])) == set()


def test_a_manifest_whose_event_never_arrived_is_found() -> None:
    run = a_good_run()
    assert found(replace(run, batches={BATCH: run.batches[BATCH]})) == {Promise.UNREGISTERED}


@pytest.mark.parametrize(
    "counts",
    [Counts(3, 1, 1), Counts(2, 2, 0), Counts(2, 0, 2), Counts(2, 1, 0), Counts(2, 1, 1, 0, 1)],
)
def test_wrong_counts_are_found(counts: Counts) -> None:
    run = a_good_run()
    batches = {**run.batches, BATCH: batch(BATCH, BatchState.PARTIAL, counts)}
    assert found(replace(run, batches=batches)) == {Promise.MISCOUNTED}


def test_a_batch_that_ended_without_a_manifest_is_found_unless_it_held_nothing() -> None:
    third = "20261123T093003Z-0001020304050607"
    run = a_good_run()
    for state, promises in (
        (BatchState.IMPORTED, {Promise.MISCOUNTED, Promise.UNTOLD}),
        (BatchState.QUARANTINED, set()),
    ):
        batches = {**run.batches, third: batch(third, state, Counts(0))}
        assert found(replace(run, batches=batches)) == promises


def test_a_batch_whose_end_was_never_told_is_found() -> None:
    run = a_good_run()
    told = Told(OTHER, BatchState.IMPORTED, NOW)
    assert found(replace(run, told=frozenset({told}))) == {Promise.UNTOLD}


def test_an_end_that_corrects_another_is_told_too() -> None:
    run = a_good_run()
    later = NOW + timedelta(minutes=1)
    corrected = replace(run.batches[BATCH], ended_at=later, corrected_at=later)
    run = replace(run, batches={**run.batches, BATCH: corrected})
    assert found(run) == {Promise.UNTOLD}
    told = run.told | {Told(BATCH, BatchState.PARTIAL, later)}
    assert found(replace(run, told=told)) == set()


def test_an_object_that_no_manifest_lists_is_found() -> None:
    early = NOW - timedelta(seconds=10)
    run = with_object(a_good_run(), str(key(AGAIN)), early)
    assert found(run) == {Promise.ORPHAN}
    assert found(replace(run, reported=frozenset({str(key(AGAIN))}))) == {Promise.ORPHAN}


def test_a_put_behind_the_sweep_is_late_only_if_reconciliation_reports_it() -> None:
    run = with_object(a_good_run(), str(key(AGAIN)), NOW + timedelta(seconds=2))
    assert found(run) == {Promise.ORPHAN}
    reported = replace(run, reported=frozenset({str(key(AGAIN))}))
    assert found(reported) == set()
    assert late_objects(reported) == [str(key(AGAIN))]


def test_an_object_of_no_batch_is_found() -> None:
    strange = "instances/20261123T093009Z-0001020304050607/1.2/1.2.3/1.2.3.9.dcm"
    run = with_object(a_good_run(), strange, NOW + timedelta(seconds=2))
    assert found(replace(run, reported=frozenset({strange}))) == {Promise.ORPHAN}


def test_an_open_upload_is_found() -> None:
    run = replace(a_good_run(), uploads=[str(key(AGAIN))])
    assert found(run) == {Promise.OPEN_UPLOAD}


def test_a_receiver_that_ended_by_itself_is_found() -> None:
    assert found(replace(a_good_run(), tasks_died=1)) == {Promise.TASK_DIED}


def test_a_retry_that_was_refused_is_found() -> None:
    (found,) = unretried({"B": "nobody can say"})
    assert (found.promise, found.subject) == (Promise.NOT_RETRIED, "B")
    assert unretried({}) == []
