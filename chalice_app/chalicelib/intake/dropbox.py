"""Objects put under ``dropbox/`` by any tool: read, grouped by study, copied into batches.

An event only says that there is something. Whoever has the lock takes all that lies there, so that
thousands of events become a few batches, and an event that was lost costs a minute, until the
schedule's next look. It may crash anywhere: a batch's id follows from what is in it, its manifest's
PUT commits it, and an object leaves the dropbox only behind that.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

import structlog

from chalicelib.errors import ObjectMissing, ObjectUnavailable, ServiceUnavailable
from chalicelib.events.facts import dropped_event
from chalicelib.intake.drops import (
    COPIED_FROM,
    Dropped,
    Unfit,
    group_id,
    group_manifest,
    judge,
    plan,
)
from chalicelib.stores.files import Files, ObjectChanged
from chalicelib.stores.instances import InstanceStore
from chalicelib.stores.lock import Lock
from chalicelib.stores.objects import MAX_MANIFEST_BYTES
from chalicelib.stores.outbox import Outbox
from chalicelib.threads import in_threads
from contract.keys import DROPBOX_PREFIX, manifest_key
from contract.manifest import Manifest, ManifestInstance

# Most headers fit in the first; the second is what a header may take anywhere in this product.
BEGINNING_BYTES = 64 * 1024
LONG_BEGINNING_BYTES = 4 * 1024 * 1024
# Ten threads read and copy so many small objects in some twenty seconds. A study whose objects
# stand in one folder is cut at most once for each.
_ROUND = 2_000
# The last round begins within this; then the function's 120 s are enough for it.
_WORK = timedelta(seconds=60)
# Longer than the function may run: whoever holds the lock for longer is dead.
_HOLD = timedelta(seconds=150)
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Dropbox:
    """What collecting works with; ``holder`` is an invocation's own name."""

    files: Files
    instances: InstanceStore
    outbox: Outbox
    lock: Lock
    now: Callable[[], datetime]
    holder: str


def collect(box: Dropbox) -> bool:
    """Make batches of what lies in the dropbox; False if another invocation is at it."""
    began = box.now()
    if not box.lock.take(box.holder, began, began + _HOLD):
        return False
    try:
        for keys in _rounds(box.files):
            import_dropped(keys, box)
            if box.now() - began > _WORK:
                break  # the schedule's next look goes on
    finally:
        box.lock.leave(box.holder)
    return True


def import_dropped(keys: Sequence[str], box: Dropbox) -> None:
    """Make batches of the objects under ``keys``, or put them into quarantine.

    One that meets an error stays where it is, for the next try.
    """
    found = in_threads(lambda key: _inspect(key, box.files), list(keys))
    unfit = [each for each in found if isinstance(each, Unfit)]
    in_threads(lambda each: _put_aside(each, box), unfit)
    for group in plan(each for each in found if isinstance(each, Dropped)):
        try:
            _import_group(group, box)
        except ServiceUnavailable as error:
            _log.warning("dropbox_batch_failed", instances=len(group), reason=str(error))


def _rounds(files: Files) -> Iterator[list[str]]:
    # A console makes objects of no bytes for its folders.
    keys = (each.key for each in files.list(DROPBOX_PREFIX) if not each.key.endswith("/"))
    while chunk := list(islice(keys, _ROUND)):
        yield chunk


def _inspect(key: str, files: Files) -> Dropped | Unfit | None:
    """What an object is; None where it is gone, or cannot be read now."""
    try:
        found = judge(*files.begin(key, BEGINNING_BYTES))
        if isinstance(found, Unfit) and found.more_may_help:
            found = judge(*files.begin(key, LONG_BEGINNING_BYTES))
    except ObjectMissing:
        return None
    except ServiceUnavailable as error:
        _log.warning("dropped_object_unread", reason=str(error))
        return None
    return found


def _put_aside(bad: Unfit, box: Dropbox) -> None:
    """Copy, announce, delete."""
    try:
        box.files.copy(bad.source, bad.target, bad.metadata)
        box.outbox.keep(dropped_event(bad.target, bad.reason, box.now()))
        box.files.delete([bad.source.key])
    except (ObjectUnavailable, ServiceUnavailable) as error:
        _log.warning("dropped_object_stays", reason=str(error))
    else:
        _log.warning("dropped_object_quarantined", key=bad.target)


def _import_group(group: Sequence[Dropped], box: Dropbox) -> None:
    """Copy, commit, delete."""
    files, batch_id = box.files, group_id(group)
    done = _committed(group, box)
    fresh = [each for each in group if each.source.key not in done]
    copies = in_threads(lambda each: _copy(each, batch_id, files), fresh)
    entries = {each.source.key: entry for each, entry in zip(fresh, copies, strict=True) if entry}
    if entries:
        manifest = group_manifest(group, entries.values())
        files.create(manifest_key(batch_id), manifest.to_json())
        # Ours, or that of an earlier try, which may have missed an object.
        listed = _listed(batch_id, files)
        done |= {key for key, entry in entries.items() if entry.key in listed}
    files.delete(done)
    _log.info("dropbox_batch", batch_id=batch_id, instances=len(entries))


def _listed(batch_id: str, files: Files) -> set[str]:
    body = files.read(manifest_key(batch_id), MAX_MANIFEST_BYTES)
    return {each.key for each in Manifest.from_json(body).instances}


def _committed(group: Iterable[Dropped], box: Dropbox) -> set[str]:
    """Objects that are in a batch already, by a try that died before it could delete them."""
    rows = box.instances.of_instances(each.instance for each in group)

    def is_copied(each: Dropped) -> bool:
        return any(_is_copy(row.key, each, box.files) for row in rows[each.instance])

    known = [each for each in group if each.instance in rows]
    copied = in_threads(is_copied, known)
    return {each.source.key for each, is_done in zip(known, copied, strict=True) if is_done}


def _is_copy(key: str, each: Dropped, files: Files) -> bool:
    try:
        return files.head(key).metadata.get(COPIED_FROM) == each.mark
    except ObjectMissing:
        return False


def _copy(each: Dropped, batch_id: str, files: Files) -> ManifestInstance | None:
    """The copy's entry; None where the object is gone, or was replaced since."""
    try:
        checksum = files.copy(each.source, str(each.key(batch_id)), each.metadata(batch_id))
    except (ObjectMissing, ObjectChanged):
        return None
    return each.entry(batch_id, checksum)
