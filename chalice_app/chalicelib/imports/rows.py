"""A manifest's instances, batch and job as records, for each step of an import."""

from collections.abc import Iterable
from datetime import datetime

from contract.manifest import Manifest, ManifestInstance
from contract.records import (
    BatchRecord,
    BatchState,
    Counts,
    InstanceRecord,
    InstanceState,
)


def instance_rows(
    manifest: Manifest,
    state: InstanceState,
    now: datetime,
    *,
    job_id: str | None = None,
    reason: str | None = None,
) -> list[InstanceRecord]:
    """Every instance of a batch in one and the same state."""
    return [
        instance_row(manifest.batch_id, each, state, now, job_id=job_id, reason=reason)
        for each in manifest.instances
    ]


def instance_row(
    batch_id: str,
    instance: ManifestInstance,
    state: InstanceState,
    now: datetime,
    *,
    job_id: str | None = None,
    reason: str | None = None,
) -> InstanceRecord:
    """One instance's row."""
    return InstanceRecord(
        sop_instance_uid=instance.sop_instance_uid,
        study_instance_uid=instance.study_instance_uid,
        series_instance_uid=instance.series_instance_uid,
        sop_class_uid=instance.sop_class_uid,
        batch_id=batch_id,
        key=instance.key,
        size=instance.size,
        checksum=instance.checksum,
        state=state,
        updated_at=now,
        job_id=job_id,
        reason=reason,
    )


def batch_record(
    manifest: Manifest, manifest_key: str, state: BatchState, job_id: str | None = None
) -> BatchRecord:
    """A batch whose instances' fate is not known yet."""
    return BatchRecord(
        batch_id=manifest.batch_id,
        state=state,
        manifest_key=manifest_key,
        calling_ae_title=manifest.source.calling_ae_title,
        closed_at=manifest.closed_at,
        counts=Counts(instances=len(manifest.instances)),
        job_id=job_id,
    )


def only(values: Iterable[str | None]) -> str | None:
    """The one value all have, or None."""
    distinct = set(values)
    return distinct.pop() if len(distinct) == 1 else None
