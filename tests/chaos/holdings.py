"""What HealthImaging itself has: the emulator's image sets and jobs, as no API shows them."""

from collections.abc import Iterator
from datetime import UTC, datetime

from store_scp.crc import crc64

from contract.checksums import Checksum
from contract.records import JobStatus
from local import names
from local.healthimaging.image_sets import ImageSet, ImageSetState
from local.healthimaging.models import MedicalImagingBackend, medicalimaging_backends
from tests.chaos.facts import Copy, ServiceJob


def copies() -> Iterator[Copy]:
    """Every file in every version of every image set, also of those that were deleted."""
    for datastore in _backend().datastores(None):
        for image_set in (*datastore.image_sets.values(), *datastore.deleted_image_sets.values()):
            yield from _copies_in(image_set)


def service_jobs() -> Iterator[ServiceJob]:
    """Every import job, by age."""
    for datastore in _backend().datastores(None):
        for job in datastore.jobs.values():
            yield ServiceJob(job.job_id, job.job_name, JobStatus(job.status))


def unfinished() -> dict[str, int]:
    """How many jobs run, whether anybody knows of them or not, and how many deletions."""
    datastores = _backend().datastores(None)
    jobs = [job.is_live for each in datastores for job in list(each.jobs.values())]
    image_sets = [image_set for each in datastores for image_set in each.image_sets.values()]
    return {
        "jobs in HealthImaging": sum(jobs),
        "deletions": sum(each.state is ImageSetState.LOCKED for each in image_sets),
    }


def _copies_in(image_set: ImageSet) -> Iterator[Copy]:
    seen = set()
    deleted_at = None if image_set.locked_at is None else _when(image_set.locked_at)
    latest = {instance.stored_id for instance in image_set.latest.instances.values()}
    for version in image_set.versions:  # oldest first
        for uid, instance in version.instances.items():
            if instance.stored_id not in seen:
                seen.add(instance.stored_id)
                yield Copy(
                    sop_instance_uid=uid,
                    checksum=_checksum(instance.stored_id),
                    image_set_id=image_set.image_set_id,
                    stored_at=_when(version.created_at),
                    deleted_at=deleted_at,
                    is_latest=instance.stored_id in latest,
                )


def _checksum(stored_id: str) -> Checksum:
    """As the receiver and S3 compute it."""
    return Checksum.crc64nvme(crc64(_backend().stored_file(stored_id)))


def _when(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _backend() -> MedicalImagingBackend:
    return medicalimaging_backends[names.ACCOUNT_ID][names.REGION]
