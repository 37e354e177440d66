"""Records as the REST API shows them: the attributes of the tables, times in ISO 8601 UTC."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from chalicelib.stores.items import instance_item, job_item
from contract.manifest import ManifestInstance
from contract.records import InstanceRecord, InstanceState, JobRecord

Json = dict[str, Any]
# How many failed instances one answer about a study lists; failedCount counts all.
MAX_FAILED = 100


def job_view(job: JobRecord) -> Json:
    """One import job."""
    return job_item(job)


def job_instance_view(
    instance: ManifestInstance, row: InstanceRecord | None, batch_id: str
) -> Json:
    """One instance of one job's batch.

    ``supersededByBatchId`` says that the instance was sent again since: the state is the newer's.
    """
    if row is None:
        return {
            "sopInstanceUID": instance.sop_instance_uid,
            "seriesInstanceUID": instance.series_instance_uid,
            "studyInstanceUID": instance.study_instance_uid,
            "state": InstanceState.RECEIVED,
            "batchId": batch_id,
        }
    newer = {} if row.batch_id == batch_id else {"supersededByBatchId": row.batch_id}
    return instance_item(row) | newer


def study_view(study_instance_uid: str, rows: Iterable[InstanceRecord]) -> Json:
    """A study: what was received of it, and how far that is."""
    states: Counter[InstanceState] = Counter()
    jobs: set[str] = set()
    batches: set[str] = set()
    failed: list[Json] = []
    for row in rows:
        states[row.state] += 1
        batches.add(row.batch_id)
        jobs.update([row.job_id] if row.job_id else [])
        if row.state is InstanceState.FAILED and len(failed) < MAX_FAILED:
            failed.append(instance_item(row))
    return {
        "studyInstanceUID": study_instance_uid,
        "receivedCount": states.total(),
        "waitingCount": states[InstanceState.RECEIVED],
        "importingCount": states[InstanceState.IMPORTING],
        "importedCount": states[InstanceState.IMPORTED],
        "failedCount": states[InstanceState.FAILED],
        "quarantinedCount": states[InstanceState.QUARANTINED],
        "jobIds": sorted(jobs),
        "batchIds": sorted(batches),
        "failed": failed,
    }
