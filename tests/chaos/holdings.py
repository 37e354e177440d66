"""What HealthImaging and S3 themselves have, as no API shows it: the emulators' own objects."""

from collections.abc import Iterator
from datetime import UTC, datetime

from moto.s3.models import s3_backends

from contract.checksums import Checksum
from contract.keys import instance_id
from contract.records import JobStatus
from local import names
from local.healthimaging.image_sets import ImageSet, ImageSetState, Instance
from local.healthimaging.models import MedicalImagingBackend, medicalimaging_backends
from tests.chaos.contents import Content
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


def object_digest(key: str) -> Checksum:
    """The SHA-256 of an object in the DICOM bucket, be it archived."""
    backend = s3_backends[names.ACCOUNT_ID][names.PARTITION]
    found = backend.get_object(names.DICOM_BUCKET, key)
    assert found is not None
    return Checksum.of(found.value)


def _copies_in(image_set: ImageSet) -> Iterator[Copy]:
    seen = set()
    deleted_at = None if image_set.locked_at is None else _when(image_set.locked_at)
    for version in image_set.versions:  # oldest first
        for instance in version.instances.values():
            if instance.stored_id not in seen:
                seen.add(instance.stored_id)
                yield Copy(
                    content=_content(instance),
                    image_set_id=image_set.image_set_id,
                    version=version.number,
                    stored_at=_when(version.created_at),
                    deleted_at=deleted_at,
                )


def _content(instance: Instance) -> Content:
    digest = Checksum.of(_backend().stored_file(instance.stored_id))
    return Content(instance_id(*instance.series, instance.sop_instance_uid), digest)


def _when(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _backend() -> MedicalImagingBackend:
    return medicalimaging_backends[names.ACCOUNT_ID][names.REGION]
