"""Whether a run kept every promise. Pure: evidence in, violations out."""

from collections import Counter
from collections.abc import Iterator, Mapping

from chalicelib.events.quiet import ended_at
from chalicelib.stores.outbox import ANNOUNCED

from contract.batch_states import ENDED
from contract.errors import InvalidKey
from contract.keys import DUPLICATES_PREFIX, INSTANCES_PREFIX, InstanceKey, bytes_name
from contract.records import BatchRecord, BatchState, InstanceRecord, InstanceState
from tests.chaos.contents import Content
from tests.chaos.facts import (
    Evidence,
    Promise,
    StoredObject,
    Told,
    Violation,
    first_admitted_after,
)
from tests.chaos.truth import differences

_WITHOUT_REASON = frozenset({InstanceState.IMPORTED, InstanceState.DELETED})


def violations(evidence: Evidence) -> list[Violation]:
    """Every promise that was broken."""
    return [
        *_acknowledged(evidence),
        *_instances(evidence),
        *differences(evidence),
        *_batches(evidence),
        *_objects(evidence),
        *_uploads(evidence),
        *_dropped(evidence),
        *([Violation(Promise.TASK_DIED, str(evidence.tasks_died))] if evidence.tasks_died else []),
    ]


def late_objects(evidence: Evidence) -> list[str]:
    """Unlisted objects that are no violation: see docs/batches.md, "What it rests on".

    A PUT that was on its way while the import had its last look at the prefix cannot be refused by
    S3. It was not acknowledged in that batch, and reconciliation reports it.
    """
    return [each.key for each in evidence.objects if _is_late(each, evidence)]


def unretried(refused: Mapping[str, str]) -> list[Violation]:
    """Retries, by the batch, that were refused when all jobs had ended and all could be read."""
    return [Violation(Promise.NOT_RETRIED, *each) for each in sorted(refused.items())]


def _acknowledged(evidence: Evidence) -> Iterator[Violation]:
    """Each content has a row; or was imported, and deleted in HealthImaging: a row may go on.

    What lies in the dropbox is not lost.
    """
    told = evidence.rows_by_content().keys() | {each.content for each in evidence.copies}
    dropped = {digest for _, digest in evidence.dropped.values()}
    for content, sent in evidence.sent.items():
        if sent.acknowledged and content not in told and content.digest not in dropped:
            detail = f"({sent.acknowledged} times acknowledged) {content.digest}"
            yield Violation(Promise.LOST, content.instance, detail)


def _instances(evidence: Evidence) -> Iterator[Violation]:
    stands = {each.key for each in evidence.objects}
    for row in evidence.instances.values():
        instance, content, detail = row.instance, evidence.content(row), f"in batch {row.batch_id}"
        if content is None or (row.state is InstanceState.FAILED and row.key not in stands):
            yield Violation(Promise.GONE, instance, f"{row.state} {row.key} {detail}")
        elif content not in evidence.sent:
            yield Violation(Promise.NEVER_SENT, instance, f"{content.digest} {detail}")
        elif row.is_named and row.beside != _name(content, row, evidence):
            yield Violation(Promise.MISNAMED, instance, f"{row.beside} {detail}")
        if row.state is InstanceState.RECEIVED:
            yield Violation(Promise.UNFINISHED_INSTANCE, instance, f"{row.state} {detail}")
        elif row.state not in _WITHOUT_REASON and not row.reason:
            yield Violation(Promise.NO_REASON, instance, detail)


def _name(content: Content, row: InstanceRecord, evidence: Evidence) -> str:
    batch = evidence.batches.get(row.batch_id)
    store = batch.datastore_id if batch else row.datastore_id
    return bytes_name(str(content.digest), store or "no data store")


def _dropped(evidence: Evidence) -> Iterator[Violation]:
    """What lies in the dropbox is archived, and named as blocked."""
    for key, (subject, _) in evidence.dropped.items():
        if subject not in evidence.blocked:
            yield Violation(Promise.LEFT_IN_DROPBOX, repr(key))


def _batches(evidence: Evidence) -> Iterator[Violation]:
    for batch in evidence.batches.values():
        if batch.state not in ENDED:
            yield Violation(Promise.UNFINISHED_BATCH, batch.batch_id, str(batch.state))
        elif detail := _miscounted(batch, evidence):
            yield Violation(Promise.MISCOUNTED, batch.batch_id, detail)
        # The end that is true now: where it corrects another, both were told.
        end = Told(batch.batch_id, batch.state, ended_at(batch))
        if batch.state in ANNOUNCED and end not in evidence.told:
            yield Violation(Promise.UNTOLD, batch.batch_id, str(batch.state))
    for job in evidence.jobs.values():
        if not job.job_status.ended:
            yield Violation(Promise.UNFINISHED_JOB, job.job_id, f"of batch {job.batch_id}")
    for batch_id in evidence.manifests.keys() - evidence.batches.keys():
        yield Violation(Promise.UNREGISTERED, batch_id)


def _miscounted(batch: BatchRecord, evidence: Evidence) -> str | None:
    """A batch's counts against its manifest, the copies set aside, and the result files."""
    manifest = evidence.manifests.get(batch.batch_id)
    if manifest is None:
        return None if batch.state is BatchState.QUARANTINED else "ended without a manifest"
    counts = batch.counts
    prefix = DUPLICATES_PREFIX + manifest.prefix.removeprefix(INSTANCES_PREFIX)
    aside = sum(each.key.startswith(prefix) for each in evidence.objects)
    imported = sum(key.startswith(manifest.prefix) for key in evidence.imported_keys)
    told = (counts.instances, counts.duplicates, counts.imported - counts.duplicates)
    seen = (len(manifest.instances), aside, imported)
    if told != seen or counts.imported + counts.failed != counts.instances:
        return f"(instances, duplicates, imported) are {told}, should be {seen}"
    return None


def _objects(evidence: Evidence) -> Iterator[Violation]:
    listed = {each.key for manifest in evidence.manifests.values() for each in manifest.instances}
    for each in evidence.objects:
        if not each.key.startswith(INSTANCES_PREFIX) or each.key in listed:
            continue
        if not _is_late(each, evidence):
            reported = "reported" if each.key in evidence.reported else "not reported"
            yield Violation(Promise.ORPHAN, each.key, f"({reported} by reconciliation)")


def _is_late(stored: StoredObject, evidence: Evidence) -> bool:
    if stored.key not in evidence.reported:
        return False
    batch = evidence.batches.get(_batch_of(stored.key) or "")
    if batch is None or batch.ended_at is None:
        return False
    # LastModified has whole seconds. A batch without a manifest is looked at when it ends.
    looked_at = (first_admitted_after(batch) or batch.ended_at).replace(microsecond=0)
    return stored.modified_at >= looked_at


def _uploads(evidence: Evidence) -> Iterator[Violation]:
    for key, count in Counter(evidence.uploads).items():
        yield Violation(Promise.OPEN_UPLOAD, key, f"({count})")


def _batch_of(key: str) -> str | None:
    try:
        return InstanceKey.parse(key).batch_id
    except InvalidKey:
        return None
