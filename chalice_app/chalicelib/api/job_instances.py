"""The instances of one job: what it did to each, or how far each is; and what the ledger says.

What a job did stays as it was. Another batch may have the row by now: the instance was sent again
or retried, and the objects were found to be the same.
"""

from collections.abc import Sequence

from chalicelib.api.progress import Progress
from chalicelib.api.views import Json, instance_view
from chalicelib.imports.outcomes import JobInstance
from chalicelib.stores import Stores
from chalicelib.stores.instances import Rows, all_of, own, shared_and_own
from contract.keys import RowKey
from contract.manifest import ManifestInstance
from contract.records import InstanceRecord, InstanceState, JobRecord


def running_views(
    instances: Sequence[ManifestInstance], job: JobRecord, stores: Stores
) -> list[Json]:
    """Of a job that has not ended. What is on another batch's row only, was left out."""
    batch_id = job.batch_id
    known = shared_and_own(stores.instances, batch_id, [each.row_key for each in instances])
    ours, left_to, progress = own(batch_id, known), _left_to(known, job), Progress(stores.batches)

    def view(each: ManifestInstance) -> Json:
        row = ours.get(each.instance)
        if row is not None:
            return instance_view(progress.of(row))
        return _without_row(each, left_to.get(each.row_key), batch_id, progress)

    return [view(each) for each in instances]


def ended_views(outcomes: Sequence[JobInstance], job: JobRecord, stores: Stores) -> list[Json]:
    """Of a job that has ended; ``latest`` where the ledger says something else by now."""
    batch, progress = stores.batches.get(job.batch_id), Progress(stores.batches)
    retried_as = batch.retried_as if batch else None
    rows = [outcome.row for outcome in outcomes if not outcome.duplicate]
    known = stores.instances.get_many(key for row in rows for key in _places(row, retried_as))
    left = [outcome.row.row_key for outcome in outcomes if outcome.duplicate]
    left_to = _left_to(all_of(stores.instances, left), job)

    def view(outcome: JobInstance) -> Json:
        row = outcome.row
        if outcome.duplicate:
            return _without_row(row, left_to.get(row.row_key), job.batch_id, progress)
        return instance_view(row) | _latest(row, known, retried_as, progress)

    return [view(each) for each in outcomes]


def _left_to(known: Rows, job: JobRecord) -> dict[RowKey, InstanceRecord]:
    """Other batches' rows that an instance may have been left to: by checksum, the first of them.

    They are for the job's data store.
    """
    found: dict[RowKey, InstanceRecord] = {}
    for _, row in sorted(known.items()):
        if row.batch_id != job.batch_id and row.datastore_id == job.datastore_id:
            found.setdefault(row.content_key, row)
    return found


def _latest(row: InstanceRecord, known: Rows, retried_as: str | None, progress: Progress) -> Json:
    """What the ledger says of the same content now, where that is something else."""
    found = _row_now(row, known, retried_as)
    if found is None or (found.batch_id, found.state) == (row.batch_id, row.state):
        return {}
    latest = {"latest": {"state": progress.of(found).state, "batchId": found.batch_id}}
    newer = {} if found.batch_id == row.batch_id else {"supersededByBatchId": found.batch_id}
    return latest | newer


def _places(row: InstanceRecord, retried_as: str | None) -> list[RowKey]:
    """Where a row may stand that a job left behind: at its own key, first of all."""
    retry = [row.content_key.beside(retried_as)] if retried_as else []
    return [row.row_key, row.content_key, *retry]


def _row_now(row: InstanceRecord, known: Rows, retried_as: str | None) -> InstanceRecord | None:
    """The row at its own key. Where that is vacant, the batch's or its retry's that replaced it.

    It may have taken the first's place; a retry's takes the place of the batch's, or has one that
    its own id names. The first may be any other batch's, of other bytes.
    """
    own_key, *others = _places(row, retried_as)
    if own_key in known:
        return known[own_key]
    batch_ids = row.batch_id, retried_as
    return next(
        (known[key] for key in others if key in known and known[key].batch_id in batch_ids), None
    )


def _without_row(
    instance: InstanceRecord | ManifestInstance,
    other: InstanceRecord | None,
    batch_id: str,
    progress: Progress,
) -> Json:
    """What a job leaves out is as far as in the batch that imports it."""
    view: Json = {
        "sopInstanceUID": instance.sop_instance_uid,
        "seriesInstanceUID": instance.series_instance_uid,
        "studyInstanceUID": instance.study_instance_uid,
        "state": InstanceState.RECEIVED,
        "batchId": batch_id,
    }
    if other is None:
        return view
    return view | {"state": progress.of(other).state, "duplicateOfBatchId": other.batch_id}
