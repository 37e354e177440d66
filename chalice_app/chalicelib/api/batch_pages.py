"""Batches as a list: newest first, page after page, over one state or all."""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from chalicelib.stores.batches import BatchStore
from chalicelib.stores.jobs import Cursor
from contract.records import BatchRecord, BatchState

# How many batches one page may cost where a calling AE title leaves most of them out; the page
# then is short, and has a next one.
MAX_EXAMINED = 500


@dataclass(frozen=True, slots=True)
class BatchQuery:
    """Which batches are asked for."""

    state: BatchState | None = None
    calling_ae_title: str | None = None


def page(
    store: BatchStore, query: BatchQuery, limit: int, cursor: Cursor | None = None
) -> tuple[list[BatchRecord], Cursor | None]:
    """At most ``limit`` batches, newest first, and the cursor of the next page if there is one."""
    given = cursor.seen if cursor else ()
    most = MAX_EXAMINED if query.calling_ae_title else limit
    # One more than fits tells whether there is a next page.
    found = _newest(store, query.state, cursor.last if cursor else None, most + 1 + len(given))
    fresh = [
        batch
        for batch in found
        if not (cursor and batch.opened_at == cursor.last and batch.batch_id in given)
    ]
    shown: list[BatchRecord] = []
    examined = 0
    for batch in fresh[:most]:
        examined += 1
        if query.calling_ae_title in (None, batch.calling_ae_title):
            shown.append(batch)
        if len(shown) == limit:
            break
    if examined == len(fresh):
        return shown, None
    return shown, _after(fresh[:examined], cursor)


def _after(examined: list[BatchRecord], cursor: Cursor | None) -> Cursor:
    last = examined[-1].opened_at
    carried = cursor.seen if cursor and cursor.last == last else ()
    seen = (batch.batch_id for batch in examined if batch.opened_at == last)
    return Cursor(last, (*carried, *seen))


def _newest(
    store: BatchStore, state: BatchState | None, until: datetime | None, limit: int
) -> list[BatchRecord]:
    # In the order of a batch's life: one that moves on meanwhile is met twice, never missed.
    states = list(BatchState) if state is None else [state]
    found = {each.batch_id: each for one in states for each in store.newest(one, until, limit)}
    return _newest_first(found.values(), limit)


def _newest_first(batches: Iterable[BatchRecord], limit: int) -> list[BatchRecord]:
    return heapq.nlargest(limit, batches, key=lambda batch: (batch.opened_at, batch.batch_id))
