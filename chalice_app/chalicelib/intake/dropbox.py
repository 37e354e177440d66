"""Objects put under ``dropbox/`` by any tool: read, grouped by study, copied into batches.

An event only says that there is something. The invocation that has the lock collects all that lies
there, so that thousands of events become a few batches, and an event that was lost costs a minute,
until the scheduled invocation. It may crash anywhere: a batch's id follows from what is in it, its
manifest's PUT commits it, and only then are the objects that it copied deleted, and no others that
came to their places since.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import islice

import structlog

from chalicelib.deadline import UNBOUNDED, Deadline
from chalicelib.errors import ObjectChanged, ObjectMissing
from chalicelib.events.facts import dropped_event
from chalicelib.imports.rows import open_batch
from chalicelib.intake.drops import (
    Dropped,
    Unfit,
    digest,
    group_id,
    group_manifest,
    judge,
    plan,
)
from chalicelib.isolation import Isolation
from chalicelib.stores import Stores
from chalicelib.stores.blocked import Work
from chalicelib.stores.copies import etag_of_original
from chalicelib.stores.files import Files, StoredObject
from chalicelib.stores.lock import Lock
from chalicelib.stores.objects import MAX_MANIFEST_BYTES
from chalicelib.stores.outbox import Outbox
from chalicelib.threads import in_threads
from contract.batch_states import BatchEvent
from contract.keys import DROPBOX_PREFIX, manifest_key
from contract.manifest import Manifest, ManifestInstance

# Most headers fit in the first; the second is what a header may take anywhere in this product.
BEGINNING_BYTES = 64 * 1024
LONG_BEGINNING_BYTES = 4 * 1024 * 1024
# Ten threads read and copy so many small objects in some twenty seconds. A study whose objects
# stand in one folder is cut at most once for each.
_ROUND = 2_000
# The last round begins within this, if its invocation then has the time that a round may take.
_WORK = timedelta(seconds=60)
_ROUND_TAKES = timedelta(seconds=55)
# Longer than the function may run: the lock of an invocation that died is free after this.
_HOLD = timedelta(seconds=150)
_OWNER = "dropbox"
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Dropbox:
    """What collecting works with; ``holder`` is an invocation's own name."""

    files: Files
    stores: Stores
    outbox: Outbox
    lock: Lock
    now: Callable[[], datetime]
    holder: str
    deadline: Deadline = UNBOUNDED


def collect(box: Dropbox) -> bool:
    """Make batches of what lies in the dropbox; False if another invocation is at it.

    An object that fails stops no other (``isolation``). Raises ServiceUnavailable at the end if
    AWS did not answer for some; they are there for the next invocation.
    """
    began = box.now()
    until = box.deadline.less(_ROUND_TAKES).within(_WORK, began)
    if not box.lock.take(box.holder, began, began + _HOLD):
        return False
    try:
        _collect_all(box, until)
    finally:
        box.lock.leave(box.holder)
    return True


def _collect_all(box: Dropbox, until: Deadline) -> None:
    run = Isolation(Work.DROPBOX, box.stores.blocked, box.outbox, box.now)
    for sources in _rounds(box.files):
        if until.is_over(box.now()):
            break  # the scheduled invocation goes on
        import_dropped(sources, box, run)
    else:
        run.forget_others()
    run.finish()


def import_dropped(sources: Sequence[StoredObject], box: Dropbox, run: Isolation) -> None:
    """Make batches of objects, or put them into quarantine.

    One that meets an error stays where it is, for the next try.
    """
    due = [source for source in sources if run.is_due(digest(source))]
    found = in_threads(
        lambda source: run.attempt(digest(source), lambda: _inspect(source.key, box.files)), due
    )
    unfit = [each for each in found if isinstance(each, Unfit)]
    in_threads(
        lambda bad: run.attempt(digest(bad.source), lambda: _put_aside(bad, box, run)), unfit
    )
    for group in plan(each for each in found if isinstance(each, Dropped)):
        batch_id = group_id(group)
        if run.is_due(batch_id):
            run.attempt(batch_id, partial(_import_group, batch_id, group, box, run))


def _rounds(files: Files) -> Iterator[list[StoredObject]]:
    # A console makes objects of no bytes for its folders.
    sources = (
        source for source in files.list(DROPBOX_PREFIX)
        if source.size or not source.key.endswith("/")
    )  # fmt: skip
    while chunk := list(islice(sources, _ROUND)):
        yield chunk


def _inspect(key: str, files: Files) -> Dropped | Unfit | None:
    """What an object is; None where it is gone."""
    try:
        found = judge(*files.begin(key, BEGINNING_BYTES))
        if isinstance(found, Unfit) and found.more_may_help:
            found = judge(*files.begin(key, LONG_BEGINNING_BYTES))
    except ObjectMissing:
        return None
    return found


def _put_aside(bad: Unfit, box: Dropbox, run: Isolation) -> None:
    """Copy, announce, delete; one that was replaced meanwhile is read anew in the next round."""
    try:
        box.files.copy(bad.source, bad.target, bad.metadata)
        box.outbox.keep(dropped_event(bad.target, bad.reason, box.now()))
        box.files.delete(bad.source.key, bad.source.etag)
    except (ObjectMissing, ObjectChanged):
        return
    run.succeeded(digest(bad.source))
    _log.warning("dropped_object_quarantined", key=bad.target)


def _import_group(batch_id: str, group: Sequence[Dropped], box: Dropbox, run: Isolation) -> None:
    """Copy, commit, open, delete."""
    files = box.files
    done, fresh = _committed(group, box, run)
    manifest = _manifest(batch_id, files)
    if manifest is not None:
        # An earlier try has made the batch of these very objects; a manifest is never changed.
        # What that try could not copy becomes a batch of its own once the others are deleted.
        listed = _listed(manifest)
        done |= {each.source.key for each in fresh if str(each.key(batch_id)) in listed}
        fresh = []
    copies = in_threads(
        lambda each: run.attempt(digest(each.source), lambda: _copy(each, batch_id, files)),
        fresh,
    )
    entries = {each.source.key: entry for each, entry in zip(fresh, copies, strict=True) if entry}
    if entries:
        ours = group_manifest(group, entries.values())
        files.create(manifest_key(batch_id), ours.to_json())
        # Ours, or that of another invocation, which may have missed an object.
        manifest = _manifest(batch_id, files)
        listed = _listed(manifest)
        done |= {key for key, entry in entries.items() if entry.key in listed}
    if manifest is not None:
        # While the objects are in the dropbox: whatever fails before this is done again.
        box.stores.batches.move(open_batch(manifest, _OWNER, box.now()), BatchEvent.OPENED)
    imported = [each.source for each in group if each.source.key in done]
    in_threads(
        lambda source: run.attempt(digest(source), lambda: _delete(source, files, run)),
        imported,
    )
    run.succeeded(batch_id)
    _log.info("dropbox_batch", batch_id=batch_id, instances=len(entries))


def _delete(source: StoredObject, files: Files, run: Isolation) -> None:
    """Delete what was copied; another object that came to its place is collected as well."""
    try:
        files.delete(source.key, source.etag)
    except ObjectChanged:
        _log.info("dropped_object_replaced", object=digest(source))
    run.succeeded(digest(source))


def _manifest(batch_id: str, files: Files) -> Manifest | None:
    """The batch's manifest; None if it has none."""
    try:
        return Manifest.from_json(files.read(manifest_key(batch_id), MAX_MANIFEST_BYTES))
    except ObjectMissing:
        return None


def _listed(manifest: Manifest | None) -> frozenset[str]:
    """The keys that a manifest lists."""
    return frozenset(each.key for each in manifest.instances) if manifest else frozenset()


def _committed(
    group: Sequence[Dropped], box: Dropbox, run: Isolation
) -> tuple[set[str], list[Dropped]]:
    """The keys of those that an earlier try copied and could not delete; and the other objects.

    An object whose copy S3 denies is blocked, and in neither: nobody can say what it is.
    """
    rows = box.stores.instances.of_instances(each.instance for each in group)

    def is_copied(each: Dropped) -> bool | None:
        # A copy of this very object is registered after the object was dropped.
        since = each.source.modified_at
        places = [row.key for row in rows.get(each.instance, ()) if row.updated_at >= since]
        return run.attempt(
            digest(each.source), lambda: any(_is_copy(key, each, box.files) for key in places)
        )

    copied = list(zip(group, in_threads(is_copied, list(group)), strict=True))
    done = {each.source.key for each, is_done in copied if is_done}
    return done, [each for each, is_done in copied if is_done is False]


def _is_copy(key: str, each: Dropped, files: Files) -> bool:
    """Not if the object is newer: then the same file was dropped again, as somebody wants it."""
    try:
        copy = files.head(key)
    except ObjectMissing:
        return False
    is_later = copy.modified_at >= each.source.modified_at
    return is_later and etag_of_original(copy.metadata, each.source.key) == each.source.etag


def _copy(each: Dropped, batch_id: str, files: Files) -> ManifestInstance | None:
    """The copy's entry; None where the object is gone, or was replaced since."""
    try:
        checksum = files.copy(each.source, str(each.key(batch_id)), each.metadata(batch_id))
    except (ObjectMissing, ObjectChanged):
        return None
    return each.entry(batch_id, checksum)
