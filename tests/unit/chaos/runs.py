"""What a run with nothing wrong leaves, to plant violations in."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from contract.checksums import Checksum
from contract.keys import InstanceKey, bytes_name
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
from tests.chaos.contents import Content
from tests.chaos.facts import Copy, Evidence, Promise, ServiceJob, StoredObject, Told
from tests.chaos.ledger import Sent
from tests.chaos.verdict import violations

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
BATCH, OTHER, THIRD = (f"20261123T09300{digit}Z-0001020304050607" for digit in range(3))
IMPORTED, FAILED, AGAIN = "1.2.3.1", "1.2.3.2", "1.2.3.3"
# Of every object: it can be forged, so nothing here goes by it.
CHECKSUM = Checksum.crc64nvme(1)
DIGEST, OTHER_DIGEST = (Checksum.of(body) for body in (b"bytes", b"other bytes"))
IMAGE_SET = "a" * 32
ROWS = {
    IMPORTED: (InstanceState.IMPORTED, None),
    FAILED: (InstanceState.FAILED, "HealthImaging says so"),
}


def key(uid: str, batch_id: str = BATCH) -> InstanceKey:
    return InstanceKey(batch_id, "1.2", "1.2.3", uid)


def content(uid: str, digest: Checksum = DIGEST) -> Content:
    return Content(key(uid).instance, digest)


def row(uid: str, state: InstanceState, reason: str | None = None, **more: Any) -> InstanceRecord:
    stands = key(uid).quarantined("import-failed") if state is InstanceState.FAILED else key(uid)
    is_there = state is InstanceState.IMPORTED
    made = InstanceRecord(
        uid, "1.2", "1.2.3", "1.2.840.10008.5.1.4.1.1.2", BATCH, "0" * 32, str(stands), 5, CHECKSUM,
        state, NOW, job_id="job", reason=reason,
        image_set_id=IMAGE_SET if is_there else None, image_set_version=1 if is_there else None,
    )  # fmt: skip
    return replace(made, **more)


def copy(
    uid: str = IMPORTED,
    minutes: int = 0,
    deleted: int | None = None,
    digest: Checksum = DIGEST,
    **more: Any,
) -> Copy:
    """Stored so many minutes after the first, and deleted."""
    deleted_at = None if deleted is None else NOW + timedelta(minutes=deleted)
    stored_at = NOW + timedelta(minutes=minutes)
    return replace(Copy(content(uid, digest), IMAGE_SET, 1, stored_at, deleted_at), **more)


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
        batch_id, state, "CT1", NOW, counts,
        datastore_id="0" * 32, closed_at=NOW, admitted_at=NOW, ended_at=NOW,
    )  # fmt: skip


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
    first_keys = (key(IMPORTED), key(FAILED), key(IMPORTED, OTHER))
    rows = [row(uid, *told) for uid, told in ROWS.items()]
    return Evidence(
        sent={
            content(IMPORTED): Sent(2),
            content(FAILED): Sent(1),
            content(AGAIN): Sent(unanswered=1),
        },
        copies=[copy()],
        service_jobs=[ServiceJob("job", BATCH, JobStatus.COMPLETED)],
        imported_keys=[str(key(IMPORTED))],
        instances={each.row_key: each for each in rows},
        batches={
            BATCH: batch(BATCH, BatchState.PARTIAL, Counts(2, 1, 1)),
            OTHER: batch(OTHER, BatchState.IMPORTED, Counts(1, 1, 0, duplicates=1)),
        },
        jobs={"job": job},
        manifests={BATCH: manifest(BATCH, IMPORTED, FAILED), OTHER: manifest(OTHER, IMPORTED)},
        objects=[StoredObject(each, NOW - timedelta(minutes=1)) for each in keys],
        digests={str(each): DIGEST for each in first_keys},
        uploads=[],
        reported=frozenset(),
        told=frozenset(
            {Told(BATCH, BatchState.PARTIAL, NOW), Told(OTHER, BatchState.IMPORTED, NOW)}
        ),
    )


def two_versions() -> Evidence:
    """Other bytes with the same checksum: imported into the same image set, on a row beside."""
    return with_another(OTHER_DIGEST, bytes_name(str(OTHER_DIGEST), "0" * 32))


def a_second_copy() -> Evidence:
    """The same bytes, imported by another batch, which has a row of its own for them."""
    return with_another(DIGEST, OTHER)


def with_another(digest: Checksum, beside: str) -> Evidence:
    """The second batch has imported its object as well, as the image set's next version."""
    run = a_good_run()
    theirs = str(key(IMPORTED, OTHER))
    told = row(
        IMPORTED, InstanceState.IMPORTED,
        batch_id=OTHER, key=theirs, beside=beside, image_set_version=2,
    )  # fmt: skip
    objects = [each for each in run.objects if not each.key.startswith("duplicates/")]
    run = replace(
        run,
        sent=with_sent(run, content(IMPORTED, digest), Sent(2)),
        copies=[*run.copies, copy(minutes=1, digest=digest, version=2)],
        imported_keys=[*run.imported_keys, theirs],
        batches={**run.batches, OTHER: batch(OTHER, BatchState.IMPORTED, Counts(1, 1, 0))},
        objects=[*objects, StoredObject(theirs, NOW)],
        digests={**run.digests, theirs: digest},
    )
    return with_row(run, told)


def found(evidence: Evidence) -> set[Promise]:
    return {each.promise for each in violations(evidence)}


def with_sent(run: Evidence, what: Content, sent: Sent) -> dict[Content, Sent]:
    return {**run.sent, what: sent}


def with_row(run: Evidence, changed: InstanceRecord) -> Evidence:
    return replace(run, instances={**run.instances, changed.row_key: changed})


def without_rows(run: Evidence, is_one: Callable[[InstanceRecord], bool]) -> Evidence:
    rows = {name: each for name, each in run.instances.items() if not is_one(each)}
    return replace(run, instances=rows)


def with_object(run: Evidence, name: str, modified_at: datetime = NOW) -> Evidence:
    return replace(run, objects=[*run.objects, StoredObject(name, modified_at)])
