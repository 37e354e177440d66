"""Whether the records and HealthImaging say the same, asked both ways. Pure."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

from chalicelib.stores.instances import same_bytes

from contract.keys import InstanceKey
from contract.records import InstanceRecord, InstanceState, JobStatus
from tests.chaos.facts import Copy, Evidence, Promise, ServiceJob, Violation
from tests.chaos.ledger import Sent


def differences(evidence: Evidence) -> Iterator[Violation]:
    """What the records say and HealthImaging has not, and what it has and they do not say."""
    yield from _rows(evidence)
    yield from _copies(evidence)
    yield from _repetitions(evidence)
    yield from _jobs(evidence)


def _rows(evidence: Evidence) -> Iterator[Violation]:
    """The ledger's rows, against the image sets that there are."""
    found: dict[str, list[Copy]] = defaultdict(list)
    for copy in evidence.copies:
        if copy.is_there:
            found[copy.sop_instance_uid].append(copy)
    imported = set(evidence.imported_keys)
    for uid, row in evidence.instances.items():
        detail = f"in batch {row.batch_id}, image set {row.image_set_id}"
        own = [each for each in found[uid] if _is_same(each, row)]
        if row.state is InstanceState.IMPORTED:
            if row.image_set_id not in {each.image_set_id for each in own}:
                yield Violation(Promise.NOT_IN_HEALTHIMAGING, uid, detail)
        elif row.state is InstanceState.DELETED:
            if own:
                yield Violation(Promise.NOT_DELETED, uid, detail)
        elif row.state is not InstanceState.RECEIVED and _key(row) in imported:
            yield Violation(Promise.IMPORTED_AND_FAILED, uid, f"{detail}: {row.reason}")


def _copies(evidence: Evidence) -> Iterator[Violation]:
    """What is in the image sets that there are, against the ledger's rows."""
    checksums = evidence.checksums()
    for copy in evidence.copies:
        uid = copy.sop_instance_uid
        if uid not in evidence.sent:
            yield Violation(Promise.NEVER_SENT, uid, "in HealthImaging")
        row = evidence.instances.get(uid)
        if row is None:
            yield Violation(Promise.NOT_IN_LEDGER, uid, "without a row")
        elif copy.is_there:
            is_rows = row.state is InstanceState.IMPORTED and _is_same(copy, row)
            named = {checksums[key] for key in row.conflicts if key in checksums}
            if not is_rows and copy.checksum not in named:
                detail = f"{row.state} in batch {row.batch_id}, image set {copy.image_set_id}"
                yield Violation(Promise.NOT_IN_LEDGER, uid, detail)
    for key in sorted(set(evidence.imported_keys) - checksums.keys()):
        yield Violation(Promise.UNLISTED, key)


def _repetitions(evidence: Evidence) -> Iterator[Violation]:
    """Each version of an instance is stored once; again only once it was deleted, and then sent.

    Of UIDs that were sent with other bytes it is not told how often one is imported: sent again
    behind the other, it is the newer again.
    """
    by_uid: dict[str, list[Copy]] = defaultdict(list)
    for copy in evidence.copies:
        by_uid[copy.sop_instance_uid].append(copy)
    for uid, copies in by_uid.items():
        sent = evidence.sent.get(uid, Sent())
        in_order = sorted(copies, key=lambda each: each.stored_at)
        beside = sent.versions == 1 and any(
            earlier.deleted_at is None or later.stored_at < earlier.deleted_at
            for earlier, later in pairwise(in_order)
        )
        if beside or len(copies) > sent.acknowledged + sent.unanswered:
            batches = ", ".join(_importers(uid, evidence))
            yield Violation(Promise.IMPORTED_TWICE, uid, f"by {batches}")


def _importers(uid: str, evidence: Evidence) -> Iterator[str]:
    for key in evidence.imported_keys:
        parsed = InstanceKey.parse(key)
        if parsed.sop_instance_uid == uid:
            yield parsed.batch_id


def _jobs(evidence: Evidence) -> Iterator[Violation]:
    """Import jobs: one for each batch, unless the first failed; recorded as HealthImaging has it.

    A failed one need not be known: its start may have had no answer, and it has imported nothing.
    """
    of_batch: dict[str, list[ServiceJob]] = defaultdict(list)
    for job in evidence.service_jobs:
        of_batch[job.batch_id].append(job)
    for batch_id, jobs in of_batch.items():
        lasting = [each.job_id for each in jobs if each.status is not JobStatus.FAILED]
        if len(lasting) > 1:
            yield Violation(Promise.TWO_JOBS, batch_id, ", ".join(lasting))
        for job_id in lasting:
            if job_id not in evidence.jobs:
                yield Violation(Promise.UNKNOWN_JOB, job_id, f"of batch {batch_id}")
    has = {job.job_id: job.status for job in evidence.service_jobs}
    for record in evidence.jobs.values():
        # An import that never got a job has its batch's id.
        status = has.get(record.job_id)
        if record.job_id != record.batch_id and status is not record.job_status:
            detail = f"of batch {record.batch_id}: {record.job_status}, not {status}"
            yield Violation(Promise.UNTRUE_JOB, record.job_id, detail)


def _is_same(copy: Copy, row: InstanceRecord) -> bool:
    return same_bytes(copy.checksum, row.checksum) is True


def _key(row: InstanceRecord) -> str:
    """The key that a failed instance had when it was imported or not."""
    return str(
        InstanceKey(
            row.batch_id, row.study_instance_uid, row.series_instance_uid, row.sop_instance_uid
        )
    )
