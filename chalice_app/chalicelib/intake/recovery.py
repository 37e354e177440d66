"""Closes the batches whose owner has died: from what is in S3, and never half.

A batch is recovery's once its lease has run out and a grace has passed, longer than S3 keeps a PUT
that stalls. It is fenced first, on the very lease that was read, so that its owner can never renew
it; then the prefix tells what was acknowledged. The manifest's PUT commits, and only if there is
none: whoever else wrote one was right.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar

import structlog

from chalicelib.deadline import UNBOUNDED, Deadline
from chalicelib.imports.aside import move_all, unlisted_key
from chalicelib.imports.listing import Found, found_in, recovered_manifest, under
from chalicelib.imports.rows import open_batch
from chalicelib.intake.trigger import close_batch
from chalicelib.isolation import Isolation
from chalicelib.operations.quarantine import locate
from chalicelib.settings import RecoverySettings
from chalicelib.stores import Stores
from chalicelib.stores.blocked import Work
from chalicelib.stores.copies import etag_of_original, origin
from chalicelib.stores.files import Files, has_manifest
from chalicelib.stores.objects import read_manifest
from chalicelib.stores.outbox import Outbox
from chalicelib.threads import in_threads
from contract.batch_states import BatchEvent
from contract.job_limits import BATCH, JobLimits, cut
from contract.keys import (
    BATCH_ENTROPY_BYTES,
    batch_prefix,
    manifest_key,
    parse_batch_id,
)
from contract.manifest import Manifest
from contract.records import BatchRecord, BatchState

OWNER = "recovery"
Subject = TypeVar("Subject")
# The largest batch: a HEAD of each object, and copies where it is cut. The grace is as long.
_BATCH_TAKES = timedelta(seconds=120)
_UNREADABLE = "not an instance with the metadata of one"
_EMPTY = "nothing was stored in it"
_log = structlog.get_logger()


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Recovery:
    """What recovering works with."""

    stores: Stores
    outbox: Outbox
    files: Files
    settings: RecoverySettings
    now: datetime
    limits: JobLimits = BATCH
    deadline: Deadline = UNBOUNDED
    clock: Callable[[], datetime] = _utc_now


def overdue(batch: BatchRecord, now: datetime, grace_seconds: int) -> bool:
    """Whether an open batch is nobody's any more.

    ``now`` is Lambda's clock, which is trusted. The record has AWS's time, whatever the receiver's
    clock says; it is right to a few seconds, and the grace is for more (docs/batches.md).
    """
    expires_at = batch.lease_expires_at
    return expires_at is not None and expires_at + timedelta(seconds=grace_seconds) < now


def parts(found: Iterable[Found], limits: JobLimits) -> Iterator[list[Found]]:
    """What was found, in the order of its keys, cut so that each part fits into one job."""
    in_order = sorted(found, key=lambda each: each.instance.key)
    return cut(in_order, lambda each: each.instance.size, limits)


def part_id(batch_id: str, number: int) -> str:
    """The id of a further part: as old as the batch, and the same whoever recovers it when."""
    opened = parse_batch_id(batch_id).partition("-")[0]
    digest = hashlib.sha256(f"{batch_id}/{number}".encode()).hexdigest()
    return parse_batch_id(f"{opened}-{digest[: 2 * BATCH_ENTROPY_BYTES]}")


def recover_batches(recovery: Recovery) -> int:
    """Close the open batches that are overdue, the oldest first; returns how many it closed.

    What a crash, or an invocation that ran out of time, leaves undone is overdue again after
    RECOVERY_GRACE_SECONDS. A batch that fails stops no other (``isolation``). Raises
    ServiceUnavailable at the end if AWS did not answer for some.
    """
    grace = recovery.settings.recovery_grace_seconds
    ids = [line.batch_id for line in recovery.stores.batches.lines(BatchState.OPEN)]
    found = recovery.stores.batches.get_many(ids)
    opened = (found[each] for each in ids if each in found)
    run = _isolation(Work.RECOVERY, recovery)
    # A blocked one has a lease between two tries: it is asked about all the same.
    due = [batch for batch in opened if run.is_due(batch.batch_id)]
    run.forget_others()
    late = [batch for batch in due if overdue(batch, recovery.now, grace)]
    count = 0
    for batch in _in_time(late, recovery):
        count += run.attempt(batch.batch_id, partial(_recover, batch, recovery, run)) or 0
    intake = _close_blocked(recovery)
    run.finish()
    intake.finish()
    return count


def _in_time(subjects: Sequence[Subject], recovery: Recovery) -> Iterator[Subject]:
    """Those that the invocation has the time for; the others are there in a minute."""
    until = recovery.deadline.less(_BATCH_TAKES)
    for number, subject in enumerate(subjects):
        if until.is_over(recovery.clock()):
            _log.warning("recovery_put_off", batches=len(subjects) - number)
            return
        yield subject


def _close_blocked(recovery: Recovery) -> Isolation:
    """Close the batches whose manifests' events came, and which could not be closed then.

    Their messages end in the dead-letter queue; this tries again for ever.
    """
    run = _isolation(Work.INTAKE, recovery)
    for batch_id in _in_time(run.due(), recovery):
        run.attempt(batch_id, partial(_close, batch_id, recovery, run))
    return run


def _isolation(work: Work, recovery: Recovery) -> Isolation:
    return Isolation(work, recovery.stores.blocked, recovery.outbox, lambda: recovery.now)


def _close(batch_id: str, recovery: Recovery, run: Isolation) -> None:
    """The event of the manifest's PUT does this; here, in case that was lost, or it failed."""
    bucket, default = recovery.files.bucket, recovery.settings.datastore_id
    close_batch(bucket, manifest_key(batch_id), recovery.stores, default, recovery.now)
    run.succeeded(batch_id)


def _recover(batch: BatchRecord, recovery: Recovery, run: Isolation) -> bool:
    batches = recovery.stores.batches
    # It expires at once: the grace is time enough for a recovery, too.
    if not batches.take_lease(batch, OWNER, recovery.now):
        return False  # its owner, or another recovery, was quicker
    if has_manifest(batch.batch_id, recovery.files):
        _close(batch.batch_id, recovery, run)
        return True
    # Before the prefix is listed, so that no large instance is completed behind that.
    recovery.files.end_uploads(batch_prefix(batch.batch_id))
    found, strays = found_in(batch.batch_id, recovery.files)
    move_all(recovery.files, strays, unlisted_key, _UNREADABLE)
    if found:
        _publish(batch.batch_id, found, recovery)
    else:
        empty = replace(batch, message=_EMPTY, ended_at=recovery.now)
        batches.move(empty, BatchEvent.QUARANTINED)
    run.succeeded(batch.batch_id)
    _log.warning("batch_recovered", batch_id=batch.batch_id, instances=len(found))
    return True


def _publish(batch_id: str, found: Sequence[Found], recovery: Recovery) -> None:
    """Write the manifests of all parts, the batch's own last."""
    number, rest = _without_earlier_parts(batch_id, found, recovery)
    first, *others = parts(rest, recovery.limits)
    for further, part in enumerate(others, start=number):
        _move_part(part_id(batch_id, further), part, recovery)
    manifest = recovered_manifest(batch_id, first, recovery.now)
    recovery.files.create(manifest_key(batch_id), manifest.to_json())


def _without_earlier_parts(
    batch_id: str, found: Sequence[Found], recovery: Recovery
) -> tuple[int, list[Found]]:
    """The next part's number, and what is in none that a recovery before this one committed."""
    rest = {each.instance.key: each for each in found}
    number = 1
    while has_manifest(part_id(batch_id, number), recovery.files):
        key = manifest_key(part_id(batch_id, number))
        part = read_manifest(recovery.stores.objects, recovery.files.bucket, key)
        _open_part(part, recovery)
        for copy in part.instances:
            source = rest.get(under(batch_id, copy).key)
            if source is not None and _is_copied(source, copy.key, recovery.files):
                recovery.files.delete(source.source.key, source.source.etag)
                del rest[source.source.key]
        number += 1
    return number, list(rest.values())


def _move_part(batch_id: str, part: Sequence[Found], recovery: Recovery) -> None:
    """Copy, commit, open, delete."""
    files = recovery.files

    def copy(each: Found) -> None:
        target = under(batch_id, each.instance).key
        files.copy(each.source, target, {**each.source.metadata, **origin(each.source)})

    in_threads(copy, list(part))
    manifest = recovered_manifest(batch_id, part, recovery.now)
    files.create(manifest_key(batch_id), manifest.to_json())
    _open_part(manifest, recovery)
    in_threads(lambda each: files.delete(each.source.key, each.source.etag), list(part))


def _open_part(manifest: Manifest, recovery: Recovery) -> None:
    """Before what it copied is deleted: then recovery finds the part, should its event be lost.

    Behind its manifest: before that, the recovery of the batch that is cut is the part's as well.
    """
    recovery.stores.batches.move(open_batch(manifest, OWNER, recovery.now), BatchEvent.OPENED)


def _is_copied(found: Found, copied: str, files: Files) -> bool:
    """Whether an earlier recovery has copied this very object; not if the copy is gone."""
    copy = locate(copied, files)
    key, etag = found.source.key, found.source.etag
    return copy is not None and etag_of_original(copy.metadata, key) == etag
