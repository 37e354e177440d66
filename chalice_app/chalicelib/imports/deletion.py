"""Image sets that are deleted in HealthImaging: the ledger does not call their instances imported.

Two ways lead here. HealthImaging tells EventBridge ("Image Set Deleted"), as well as it can; and a
batch that would leave out a duplicate asks whether its image set is there (``imports.claims``).
https://docs.aws.amazon.com/healthimaging/latest/devguide/event-notifications.html
"""

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from functools import partial
from typing import Any, TypeGuard

import structlog

from chalicelib.errors import ImportRefused
from chalicelib.imports.context import ImportContext
from chalicelib.metrics import embedded
from chalicelib.stores.instances import Change, Rows, swap
from contract.keys import RowKey
from contract.records import InstanceRecord, InstanceState

REASON = "its image set was deleted in HealthImaging"
# API_DeleteImageSet: [0-9a-z]{32}
_ID = re.compile(r"[0-9a-z]{32}", re.ASCII)
_log = structlog.get_logger()


def image_set_noticed(detail: Mapping[str, Any], context: ImportContext) -> None:
    """Follow an event that says an image set was deleted, once HealthImaging says the same.

    Raises ImportThrottled or ServiceUnavailable; Lambda then tries again, twice.
    """
    image_set_id = detail.get("imagesetId") or detail.get("imageSetId")
    datastore_id = detail.get("datastoreId")
    if not (_is_id(image_set_id) and _is_id(datastore_id)):
        return
    try:
        if context.service.keeps(datastore_id, image_set_id):
            _log.warning("image_set_still_there")
            return
    except ImportRefused as error:
        # The event is AWS's own word, and the only one that there will be.
        _log.warning("image_set_not_verified", error=type(error).__name__)
    forget([image_set_id], context)


def forget(image_set_ids: Iterable[str], context: ImportContext) -> None:
    """Mark what the ledger has in image sets that are deleted. Safe to repeat."""
    for image_set_id in image_set_ids:
        study = context.stores.image_sets.delete(image_set_id, context.now)
        if study is not None:
            rows = context.stores.instances.by_study(study)
            _mark(image_set_id, [row.row_key for row in rows], context)


def settle_deletions(rows: Iterable[InstanceRecord], context: ImportContext) -> None:
    """Mark those of an import's rows whose image set was deleted before they were written.

    To be called once the rows are written, and ``note`` before: then one of the two, this or the
    event, finds the other's work.
    """
    instances: dict[str, list[str]] = {}
    for row in rows:
        if row.image_set_id is not None:
            instances.setdefault(row.image_set_id, []).append(row.instance)
    for image_set_id in sorted(context.stores.image_sets.deleted(instances.keys())):
        # Whatever row it is that the import was told on.
        found = context.stores.instances.of_instances(instances[image_set_id]).values()
        _mark(image_set_id, [row.row_key for rows in found for row in rows], context)


def _mark(image_set_id: str, keys: Sequence[RowKey], context: ImportContext) -> None:
    marked: set[RowKey] = set()

    def decide(known: Rows, _: Set[str]) -> list[Change]:
        gone = [
            row
            for row in known.values()
            if row.state is InstanceState.IMPORTED and row.image_set_id == image_set_id
        ]
        marked.update(row.row_key for row in gone)
        change = partial(
            replace, state=InstanceState.DELETED, reason=REASON, updated_at=context.now
        )
        return [Change(row, change(row)) for row in gone]

    swap(context.stores.instances, keys, decide, context.stores.instances.get_many)
    values = {
        "DeletedInstances": len(marked),
    }
    members = embedded(context.settings.metric_namespace, context.now, values)
    _log.info("image_set_deleted", **members)


def _is_id(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and _ID.fullmatch(value) is not None
