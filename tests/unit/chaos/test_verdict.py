"""Each planted violation is found, and nothing is found where nothing is wrong."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

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
from tests.chaos.ledger import Sent
from tests.chaos.verdict import Evidence, Promise, StoredObject, late_objects, violations

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
BATCH, OTHER = (f"20261123T09300{digit}Z-0001020304050607" for digit in range(2))
IMPORTED, FAILED, AGAIN = "1.2.3.1", "1.2.3.2", "1.2.3.3"
CHECKSUM = Checksum.of(b"bytes")
ROWS = {
    IMPORTED: (InstanceState.IMPORTED, None),
    FAILED: (InstanceState.FAILED, "HealthImaging says so"),
}


def key(uid: str, batch_id: str = BATCH) -> InstanceKey:
    return InstanceKey(batch_id, "1.2", "1.2.3", uid)


def row(uid: str, state: InstanceState, reason: str | None = None) -> InstanceRecord:
    return InstanceRecord(
        uid, "1.2", "1.2.3", "1.2.840.10008.5.1.4.1.1.2", BATCH, str(key(uid)), 5, CHECKSUM,
        state, NOW, job_id="job", reason=reason,
    )  # fmt: skip


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
        copies={IMPORTED: 1},
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
        told=frozenset({BATCH, OTHER}),
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


def test_an_acknowledged_instance_without_a_row_is_lost() -> None:
    run = a_good_run()
    assert found(replace(run, sent={**run.sent, AGAIN: Sent(acknowledged=1)})) == {Promise.LOST}


def test_a_row_without_an_end_is_found() -> None:
    open_row = row(FAILED, InstanceState.RECEIVED)
    assert found(with_row(a_good_run(), open_row)) == {Promise.UNFINISHED_INSTANCE}


def test_a_failure_without_a_reason_is_found() -> None:
    assert found(with_row(a_good_run(), row(FAILED, InstanceState.FAILED))) == {Promise.NO_REASON}


def test_an_instance_reported_imported_that_healthimaging_lacks_is_found() -> None:
    assert found(replace(a_good_run(), copies={})) == {Promise.NOT_IN_HEALTHIMAGING}


def test_an_instance_that_its_own_batch_imported_and_reports_failed_is_found() -> None:
    changed = row(IMPORTED, InstanceState.FAILED, "the results were late")
    assert found(with_row(a_good_run(), changed)) == {Promise.IMPORTED_AND_FAILED}


def test_a_second_import_is_found_with_both_batches() -> None:
    run = replace(a_good_run(), copies={IMPORTED: 2})
    run = replace(run, imported_keys=[*run.imported_keys, str(key(IMPORTED, OTHER))])
    twice = [each for each in violations(run) if each.promise is Promise.IMPORTED_TWICE]
    assert [each.subject for each in twice] == [IMPORTED]
    assert BATCH in twice[0].detail
    assert OTHER in twice[0].detail


def with_two_versions() -> Evidence:
    """Both imported: the newer's row names the older."""
    run = a_good_run()
    newer = manifest(OTHER, IMPORTED)
    (listed,) = newer.instances
    listed = replace(listed, checksum=Checksum.of(b"other bytes"))
    told = replace(
        row(IMPORTED, InstanceState.IMPORTED),
        batch_id=OTHER, key=listed.key, checksum=listed.checksum,
        conflicts=(str(key(IMPORTED)),),
    )  # fmt: skip
    run = replace(
        run,
        sent={**run.sent, IMPORTED: Sent(2, versions=2, kept=2)},
        copies={IMPORTED: 2},
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
    assert found(with_row(run, unnamed)) == {Promise.UNNAMED}


def test_a_version_that_was_acknowledged_and_is_in_no_batch_is_lost() -> None:
    run = with_two_versions()
    sent = {**run.sent, IMPORTED: Sent(3, versions=3, kept=3)}
    assert found(replace(run, sent=sent)) == {Promise.LOST}


def test_what_was_never_sent_is_found_in_the_ledger_and_in_healthimaging() -> None:
    run = a_good_run()
    sent = {uid: each for uid, each in run.sent.items() if uid != FAILED}
    assert found(replace(run, sent=sent)) == {Promise.NEVER_SENT}
    strange = replace(run, copies={**run.copies, "9.9": 1})
    assert Promise.NEVER_SENT in found(strange)


def test_what_healthimaging_has_without_a_row_is_found() -> None:
    run = a_good_run()
    assert found(replace(run, copies={**run.copies, AGAIN: 1})) == {Promise.UNFINISHED_INSTANCE}


@pytest.mark.parametrize("state", sorted(set(BatchState) - ENDED))
def test_a_batch_without_an_end_is_found(state: BatchState) -> None:
    run = a_good_run()
    batches = {**run.batches, BATCH: replace(run.batches[BATCH], state=state)}
    assert found(replace(run, batches=batches)) == {Promise.UNFINISHED_BATCH}


def test_a_job_without_an_end_is_found() -> None:
    run = a_good_run()
    running = replace(run.jobs["job"], job_status=JobStatus.IN_PROGRESS)
    assert found(replace(run, jobs={"job": running})) == {Promise.UNFINISHED_JOB}


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
    assert found(replace(a_good_run(), told=frozenset({OTHER}))) == {Promise.UNTOLD}


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
