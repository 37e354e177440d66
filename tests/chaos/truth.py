"""Whether the records and HealthImaging say the same, asked both ways. Pure.

An image set keeps all its versions. So each content that was imported is in the one that its import
made, whatever was imported behind it under the same UIDs, until the image set is deleted.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from contract.keys import InstanceKey
from contract.records import InstanceRecord, InstanceState, JobStatus
from tests.chaos.contents import Content
from tests.chaos.facts import (
    Copy,
    Evidence,
    Promise,
    ServiceJob,
    Violation,
    first_admitted_after,
    first_key,
)
from tests.chaos.ledger import Sent


def differences(evidence: Evidence) -> Iterator[Violation]:
    """What the records say and HealthImaging has not, and what it has and they do not say."""
    yield from _rows(evidence)
    yield from _copies(evidence)
    yield from _repetitions(evidence)
    yield from _jobs(evidence)


def copies_by_content(evidence: Evidence) -> Mapping[Content, Sequence[Copy]]:
    """Every copy that there is or was, oldest first."""
    found: dict[Content, list[Copy]] = defaultdict(list)
    for copy in sorted(evidence.copies, key=lambda each: each.stored_at):
        found[copy.content].append(copy)
    return found


def _rows(evidence: Evidence) -> Iterator[Violation]:
    """The ledger's rows, against the image sets that there are."""
    copies = copies_by_content(evidence)
    imported = set(evidence.imported_keys)
    for row in evidence.instances.values():
        content = evidence.content(row)
        there = [each for each in copies.get(content, ()) if each.is_there] if content else []
        detail = f"in batch {row.batch_id}, image set {row.image_set_id} ({row.image_set_version})"
        if row.state is InstanceState.IMPORTED:
            if first_key(row) not in imported or not any(_is_rows(each, row) for each in there):
                yield Violation(Promise.NOT_IN_HEALTHIMAGING, row.instance, detail)
        elif row.state is InstanceState.DELETED:
            if any(_is_rows(each, row) for each in there):
                yield Violation(Promise.NOT_DELETED, row.instance, detail)
        elif row.state is not InstanceState.RECEIVED and first_key(row) in imported:
            yield Violation(Promise.IMPORTED_AND_FAILED, row.instance, f"{detail}: {row.reason}")


def _copies(evidence: Evidence) -> Iterator[Violation]:
    """What is in the image sets that there are, against the ledger's rows."""
    rows = evidence.rows_by_content()
    for copy in evidence.copies:
        instance, digest = copy.content
        detail = f"image set {copy.image_set_id} ({copy.version}), {digest}"
        if copy.content not in evidence.sent:
            yield Violation(Promise.NEVER_SENT, instance, detail)
        told = [
            row
            for row in rows.get(copy.content, ())
            if row.state is InstanceState.IMPORTED and _is_rows(copy, row)
        ]
        if copy.is_there and not told:
            yield Violation(Promise.NOT_IN_LEDGER, instance, detail)
    listed = {each.key for manifest in evidence.manifests.values() for each in manifest.instances}
    for key in sorted(set(evidence.imported_keys) - listed):
        yield Violation(Promise.UNLISTED, key)


def _repetitions(evidence: Evidence) -> Iterator[Violation]:
    """Each content of an instance is stored once; again only once it was deleted, and then sent.

    Or when nobody could tell that it was the same: see ``_excused``.
    """
    rows = evidence.rows_by_content()
    for content, copies in copies_by_content(evidence).items():
        sent = evidence.sent.get(content, Sent())
        beside = any(
            one.overlaps(other) and not _excused((one, other), rows.get(content, ()), evidence)
            for one, other in combinations(copies, 2)
        )
        if beside or len(copies) > sent.acknowledged + sent.unanswered:
            batches = ", ".join(_importers(content, evidence))
            yield Violation(Promise.IMPORTED_TWICE, content.instance, f"by {batches}")


def _excused(copies: Sequence[Copy], rows: Sequence[InstanceRecord], evidence: Evidence) -> bool:
    """Whether the row of one stands beside, since its batch could not compare the objects."""
    return any(
        row.beside is not None
        and not row.differs
        and _is_rows(copy, row)
        and _was_blind(copy, row, evidence)
        for row in rows
        for copy in copies
    )


def _was_blind(copy: Copy, row: InstanceRecord, evidence: Evidence) -> bool:
    """Whether an object of the instance could not be read when the copy's batch compared it.

    Which was before the import, and no record says when.
    """
    batch = evidence.batches.get(row.batch_id)
    since = None if batch is None else first_admitted_after(batch)
    if since is None:
        return False
    keys = [key for key in evidence.digests if InstanceKey.parse(key).instance == row.instance]
    return any(
        outage.met(key, since, copy.stored_at) for outage in evidence.outages for key in keys
    )


def _importers(content: Content, evidence: Evidence) -> Iterator[str]:
    for key in evidence.imported_keys:
        parsed = InstanceKey.parse(key)
        if Content(parsed.instance, evidence.digests.get(key, content.digest)) == content:
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


def _is_rows(copy: Copy, row: InstanceRecord) -> bool:
    """Whether a row names the very version of the image set that was made of the copy."""
    return (copy.image_set_id, copy.version) == (row.image_set_id, row.image_set_version)
