"""What is told of a batch's end, of an instance that was put aside and of a study. Pure functions.

UIDs, counts, ids and AE titles only: HealthImaging's messages may quote a header, so they stay in
the records. Lists are cut, so that ten events fit into one request of 256 KB.
"""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any

from chalicelib.events.event import Event, EventType, an_event
from chalicelib.operations.quarantine import original_key
from chalicelib.stores.blocked import Blocked
from contract.errors import InvalidKey
from contract.keys import QUARANTINE_PREFIX, InstanceKey
from contract.records import BatchRecord, BatchState, JobRecord
from contract.times import to_iso

MAX_LISTED = 100


def batch_events(
    batch: BatchRecord, job: JobRecord | None, studies: Collection[str], ended_at: datetime
) -> list[Event]:
    """Batch Imported if anything was, Import Failed if anything was not: PARTIAL is both.

    An end that corrects another is a fact of its own.
    """
    corrected = batch.corrected_at
    subject = f"{batch.batch_id}:{to_iso(corrected)}" if corrected else batch.batch_id
    kinds = {
        EventType.BATCH_IMPORTED: batch.state in (BatchState.IMPORTED, BatchState.PARTIAL),
        EventType.IMPORT_FAILED: batch.state in (BatchState.PARTIAL, BatchState.FAILED),
    }
    detail = _batch_detail(batch, job, studies) | {"endedAt": to_iso(ended_at)}
    return [
        an_event(kind, subject, ended_at, **detail) for kind, happened in kinds.items() if happened
    ]


def quarantine_events(keys: Iterable[str], at: datetime) -> list[Event]:
    """Instance Quarantined for each key under ``quarantine/`` that is an instance's."""
    named = ((key, _original(key)) for key in keys)
    return [_quarantined(key, original, at) for key, original in named if original]


def dropped_event(key: str, reason: str, at: datetime) -> Event:
    """Instance Quarantined for a dropped file, of which nothing is known but why."""
    return an_event(EventType.INSTANCE_QUARANTINED, key, at, key=key, reason=reason)


def study_event(study_instance_uid: str, batch_ids: Collection[str], since: datetime) -> Event:
    """Study Quiet; ``since`` is when the last of its batches ended."""
    return an_event(
        EventType.STUDY_QUIET,
        f"{study_instance_uid}:{to_iso(since)}",
        since,
        studyInstanceUID=study_instance_uid,
        quietSince=to_iso(since),
        batchCount=len(batch_ids),
        batchIds=sorted(batch_ids)[:MAX_LISTED],
    )


def blocked_event(record: Blocked) -> Event:
    """Work Blocked: something cannot be handled until somebody changes something."""
    return an_event(
        EventType.WORK_BLOCKED,
        f"{record.work}:{record.subject}:{to_iso(record.since)}",
        record.since,
        work=str(record.work),
        subject=record.subject,
        reason=record.reason,
        why=record.why,
        since=to_iso(record.since),
    )


def _batch_detail(
    batch: BatchRecord, job: JobRecord | None, studies: Collection[str]
) -> dict[str, Any]:
    image_sets = job.image_set_ids if job else ()
    return {
        "batchId": batch.batch_id,
        "state": str(batch.state),
        "callingAeTitle": batch.calling_ae_title,
        "jobId": batch.job_id,
        "datastoreId": job.datastore_id if job else batch.datastore_id,
        "retryOf": batch.retry_of,
        "corrected": True if batch.corrected_at else None,
        "instanceCount": batch.counts.instances,
        "importedCount": batch.counts.imported,
        "failedCount": batch.counts.failed,
        "warningCount": batch.counts.warned,
        "duplicateCount": batch.counts.duplicates,
        "nonPrimaryCount": batch.counts.non_primary,
        "studyCount": len(studies),
        "studyInstanceUIDs": sorted(studies)[:MAX_LISTED],
        "imageSetCount": len(image_sets),
        "imageSetIds": list(image_sets[:MAX_LISTED]),
    }


def _quarantined(key: str, original: InstanceKey, at: datetime) -> Event:
    return an_event(
        EventType.INSTANCE_QUARANTINED,
        key,
        at,
        key=key,
        reason=_reason(key),
        batchId=original.batch_id,
        studyInstanceUID=original.study_instance_uid,
        seriesInstanceUID=original.series_instance_uid,
        sopInstanceUID=original.sop_instance_uid,
    )


def _reason(key: str) -> str:
    return key.removeprefix(QUARANTINE_PREFIX).partition("/")[0]


def _original(key: str) -> InstanceKey | None:
    try:
        return original_key(key)
    except InvalidKey:  # whoever else may write to the bucket chose the name
        return None
