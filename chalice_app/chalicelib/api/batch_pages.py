"""Batches as a list: newest first, page after page, over one state or all."""

from dataclasses import dataclass
from itertools import dropwhile

from chalicelib.stores.batches import BatchStore
from chalicelib.stores.pages import page as cut
from contract.records import BatchRecord, BatchState


@dataclass(frozen=True, slots=True)
class BatchQuery:
    """Which batches are asked for."""

    state: BatchState | None = None
    calling_ae_title: str | None = None


def page(
    store: BatchStore, query: BatchQuery, limit: int, cursor: str | None = None
) -> tuple[list[BatchRecord], str | None]:
    """At most ``limit`` batches, and the cursor of the next page if there is one."""

    def wanted(batch: BatchRecord) -> bool:
        return query.state in (None, batch.state) and query.calling_ae_title in (
            None,
            batch.calling_ae_title,
        )

    ids = dropwhile(lambda batch_id: batch_id == cursor, store.ids(query.state, cursor))
    return cut(ids, store.get_many, wanted, limit)
