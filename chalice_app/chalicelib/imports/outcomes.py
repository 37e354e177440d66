"""What one job did to each instance of its batch, kept apart from what became of it since.

It is an object for each end of a job: a failure that turns out to be none leaves two, and the job's
record says which one is true. It is written before that record.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import structlog

from chalicelib.errors import ObjectDenied, ObjectUnavailable
from chalicelib.imports.context import ImportContext
from chalicelib.imports.rows import instance_row
from chalicelib.stores import items
from chalicelib.stores.objects import MAX_MANIFEST_BYTES, ObjectStore
from contract.errors import ContractError
from contract.keys import outcome_key
from contract.manifest import Manifest
from contract.records import InstanceRecord, InstanceState, JobRecord
from contract.times import to_iso

_VERSION = 1
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class JobInstance:
    """What a job did to an instance, as a row of the ledger.

    A ``duplicate`` was left out, since another batch imports the same bytes; its row only says
    which instance it is.
    """

    row: InstanceRecord
    duplicate: bool = False


def keep_outcomes(
    job: JobRecord,
    manifest: Manifest | None,
    rows: Iterable[InstanceRecord],
    context: ImportContext,
) -> None:
    """Write what a job did that has ended; once, since the first one knows most.

    ``rows`` are those of what is in the batch's manifest but for its duplicates, and of what is in
    no manifest any more. Where it may not be written, the ledger has to do: no record waits for it.
    Raises ServiceUnavailable.
    """
    ended = {row.instance: row for row in rows}
    listed = {each.instance: each for each in (manifest.instances if manifest else ())}
    left_out = [
        instance_row(job.batch_id, job.datastore_id, each, InstanceState.RECEIVED, context.now)
        for instance, each in listed.items()
        if instance not in ended
    ]
    places = {instance: number for number, instance in enumerate(listed)}
    outcomes = [
        *map(JobInstance, ended.values()),
        *(JobInstance(row, duplicate=True) for row in left_out),
    ]
    outcomes.sort(key=lambda each: places.get(each.row.instance, len(places)))
    document = {
        "version": _VERSION,
        "endedAt": to_iso(context.now),
        "instances": [_item(each) for each in outcomes],
    }
    body = json.dumps(document, separators=(",", ":")).encode()
    try:
        context.files.create(outcome_key(job.batch_id, job.job_id, job.job_status), body)
    except ObjectDenied as error:
        _log.warning("outcomes_not_kept", batch_id=job.batch_id, why=str(error))


def read_outcomes(objects: ObjectStore, bucket: str, job: JobRecord) -> list[JobInstance] | None:
    """What the job did, in its manifest's order. Raises ServiceUnavailable.

    None if nobody can tell: the job has not ended, or it has so long ago that S3 deleted them.
    """
    if not job.job_status.ended:
        return None
    try:
        key = outcome_key(job.batch_id, job.job_id, job.job_status)
        document = json.loads(objects.read(bucket, key, MAX_MANIFEST_BYTES))
        at = document["endedAt"]
        return [_instance({**item, "updatedAt": at}) for item in document["instances"]]
    except (ObjectUnavailable, ObjectDenied, ContractError, ValueError, KeyError, TypeError):
        return None


def _item(instance: JobInstance) -> dict[str, Any]:
    item = items.instance_item(instance.row)
    del item["updatedAt"]  # the same for all
    return item | ({"duplicate": True} if instance.duplicate else {})


def _instance(item: dict[str, Any]) -> JobInstance:
    return JobInstance(items.instance_from_item(item), item.get("duplicate", False))
