"""Each planted violation is found, and nothing is found where nothing is wrong."""

from dataclasses import replace
from datetime import timedelta

import pytest

from contract.batch_states import ENDED
from contract.records import BatchState, Counts, InstanceState, JobStatus
from tests.chaos.facts import Promise, ServiceJob, Told
from tests.chaos.ledger import Sent
from tests.chaos.verdict import late_objects, unretried, violations
from tests.unit.chaos.runs import (
    AGAIN,
    BATCH,
    DIGEST,
    FAILED,
    IMPORTED,
    NOW,
    OTHER,
    OTHER_DIGEST,
    THIRD,
    a_good_run,
    batch,
    content,
    found,
    key,
    row,
    two_versions,
    with_object,
    with_row,
    with_sent,
    without_rows,
)


def test_a_good_run_has_no_violation() -> None:
    assert violations(a_good_run()) == []


def test_a_failed_instance_without_its_object_cannot_be_retried() -> None:
    run = a_good_run()
    left = [each for each in run.objects if FAILED not in each.key]
    assert found(replace(run, objects=left)) == {Promise.GONE}


def test_a_row_whose_bytes_nobody_has_seen_is_found() -> None:
    run = a_good_run()
    seen = {name: digest for name, digest in run.digests.items() if FAILED not in name}
    assert found(replace(run, digests=seen)) == {Promise.GONE, Promise.LOST}


def test_an_acknowledged_instance_without_a_row_is_lost() -> None:
    run = a_good_run()
    assert found(replace(run, sent=with_sent(run, content(AGAIN), Sent(1)))) == {Promise.LOST}


def test_an_acknowledged_content_is_lost_though_another_of_the_instance_has_a_row() -> None:
    run = a_good_run()
    for uid in (IMPORTED, FAILED):
        sent = with_sent(run, content(uid, OTHER_DIGEST), Sent(1))
        assert found(replace(run, sent=sent)) == {Promise.LOST}


def test_an_acknowledged_instance_is_lost_though_another_of_the_same_sop_uid_has_a_row() -> None:
    run = a_good_run()
    moved = content(IMPORTED)._replace(instance=f"9.9/1.2.3/{IMPORTED}")
    assert found(replace(run, sent=with_sent(run, moved, Sent(1)))) == {Promise.LOST}


def test_a_content_that_was_imported_and_deleted_needs_no_row() -> None:
    run = two_versions()
    older, newer = run.copies
    gone = replace(run, copies=[replace(older, deleted_at=NOW + timedelta(minutes=3)), newer])
    assert found(without_rows(gone, lambda each: each.batch_id == BATCH and not each.reason)) == (
        set()
    )


def test_a_row_beside_another_is_named_for_its_bytes() -> None:
    run = two_versions()
    (beside,) = (each for each in run.instances.values() if each.beside)
    strange = replace(beside, beside=str(content(IMPORTED).digest))
    others = without_rows(run, lambda each: each is beside)
    assert found(with_row(others, strange)) == {Promise.MISNAMED}


def test_a_row_without_an_end_is_found() -> None:
    open_row = row(FAILED, InstanceState.RECEIVED)
    assert found(with_row(a_good_run(), open_row)) == {Promise.UNFINISHED_INSTANCE}


def test_a_failure_without_a_reason_is_found() -> None:
    assert found(with_row(a_good_run(), row(FAILED, InstanceState.FAILED))) == {Promise.NO_REASON}


def test_what_was_never_sent_is_found_in_the_ledger() -> None:
    run = a_good_run()
    sent = {each: told for each, told in run.sent.items() if each != content(FAILED)}
    assert found(replace(run, sent=sent)) == {Promise.NEVER_SENT}


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
    run = a_good_run()
    for state, promises in (
        (BatchState.IMPORTED, {Promise.MISCOUNTED, Promise.UNTOLD}),
        (BatchState.QUARANTINED, set()),
    ):
        batches = {**run.batches, THIRD: batch(THIRD, state, Counts(0))}
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


def test_what_is_left_in_the_dropbox_is_named_as_blocked_or_found() -> None:
    run = replace(a_good_run(), dropped={"dropbox/a": ("digest", DIGEST)})
    assert found(run) == {Promise.LEFT_IN_DROPBOX}
    assert found(replace(run, blocked=frozenset({"digest"}))) == set()


def test_a_receiver_that_ended_by_itself_is_found() -> None:
    assert found(replace(a_good_run(), tasks_died=1)) == {Promise.TASK_DIED}


def test_a_retry_that_was_refused_is_found() -> None:
    (found,) = unretried({"B": "nobody can say"})
    assert (found.promise, found.subject) == (Promise.NOT_RETRIED, "B")
    assert unretried({}) == []
