"""HealthImaging's import jobs, and its errors turned into those the state machine knows."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from botocore.exceptions import ClientError, ParamValidationError

from chalicelib.aws import error_code, mapped_errors
from chalicelib.errors import (
    ImportQuotaExceeded,
    ImportRefused,
    ImportThrottled,
    ImportUnknown,
    ServiceUnavailable,
)
from chalicelib.imports.inventory import Held, read_inventory
from contract.records import JobStatus

if TYPE_CHECKING:
    from mypy_boto3_medical_imaging import HealthImagingClient


# How many jobs of one status are searched: a data store runs 100 at once, and lists those of 90
# days, in an order that no page tells.
_JOBS_IN_A_PAGE = 50
_MAX_JOBS = 2_000
# https://docs.aws.amazon.com/healthimaging/latest/APIReference/CommonErrors.html
_PERMANENT = {
    "AccessDeniedException": ImportRefused,
    "NotAuthorized": ImportRefused,
    "OptInRequired": ImportRefused,
    "ResourceNotFoundException": ImportUnknown,
    "ValidationError": ImportRefused,
    "ValidationException": ImportRefused,
}
# "1 validation error detected: Value 'x' at 'datastoreId' failed to satisfy constraint: ..."
_QUOTED = re.compile(r"Value '.*' at ", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """What one import job is asked to do. Both URIs are prefixes that end in ``/``."""

    batch_id: str
    datastore_id: str
    data_access_role_arn: str
    input_s3_uri: str
    output_s3_uri: str


@dataclass(frozen=True, slots=True)
class ImportView:
    """What HealthImaging says of a job; ``output_s3_uri`` may be the job's own folder."""

    status: JobStatus
    output_s3_uri: str
    message: str | None = None
    ended_at: datetime | None = None
    job_name: str | None = None


class ImportService(Protocol):
    """HealthImaging. Every call raises the errors of this module's ``errors``."""

    def start(self, request: ImportRequest) -> str:
        """Start a job, or find the one this batch started before; returns its id.

        ImportThrottled, ImportQuotaExceeded and ImportRefused say that none was started; after any
        other error there may be one.
        """
        ...

    def find(self, datastore_id: str, job_name: str, statuses: Sequence[JobStatus]) -> str | None:
        """The id of a job of this name and one of these statuses, or None.

        Of the completed ones, 2,000 are searched.
        """
        ...

    def look(self, datastore_id: str, job_id: str) -> ImportView | None:
        """How a job is doing; None where HealthImaging does not know it, or not any more."""
        ...

    def keeps(self, datastore_id: str, image_set_id: str) -> bool:
        """Whether the image set is there, and is not being deleted."""
        ...

    def inventory(self, datastore_id: str, study_instance_uid: str) -> Mapping[str, Held]:
        """The study's instances that are in image sets, by SOP Instance UID."""
        ...


class HealthImaging:
    """An ImportService.

    https://docs.aws.amazon.com/healthimaging/latest/APIReference/API_StartDICOMImportJob.html
    """

    def __init__(
        self, client: "HealthImagingClient", starts: "HealthImagingClient | None" = None
    ) -> None:
        """``starts`` is the client that sends each request once; ``client`` if left out."""
        self._client, self._starts = client, starts or client

    def start(self, request: ImportRequest) -> str:
        """See ImportService; the clientToken makes a repeated call find the same job."""
        with errors():
            answer = self._starts.start_dicom_import_job(
                jobName=request.batch_id,
                clientToken=request.batch_id,
                datastoreId=request.datastore_id,
                dataAccessRoleArn=request.data_access_role_arn,
                inputS3Uri=request.input_s3_uri,
                outputS3Uri=request.output_s3_uri,
            )
        return answer["jobId"]

    def find(self, datastore_id: str, job_name: str, statuses: Sequence[JobStatus]) -> str | None:
        """See ImportService.

        https://docs.aws.amazon.com/healthimaging/latest/APIReference/API_ListDICOMImportJobs.html
        """
        limits: Any = {"PageSize": _JOBS_IN_A_PAGE, "MaxItems": _MAX_JOBS}
        for status in statuses:
            with errors():
                pages = self._client.get_paginator("list_dicom_import_jobs").paginate(
                    datastoreId=datastore_id, jobStatus=status.value, PaginationConfig=limits
                )
                for page in pages:
                    for job in page["jobSummaries"]:
                        if job["jobName"] == job_name:
                            return job["jobId"]
        return None

    def look(self, datastore_id: str, job_id: str) -> ImportView | None:
        """See ImportService.

        Import jobs are archived after 90 days.
        https://docs.aws.amazon.com/healthimaging/latest/devguide/understanding-import-jobs.html
        """
        try:
            with errors():
                answer = self._client.get_dicom_import_job(datastoreId=datastore_id, jobId=job_id)
        except ImportUnknown:
            return None
        job = answer["jobProperties"]
        return ImportView(
            JobStatus(job["jobStatus"]),
            job["outputS3Uri"],
            job.get("message"),
            job.get("endedAt"),
            job.get("jobName"),
        )

    def keeps(self, datastore_id: str, image_set_id: str) -> bool:
        """See ImportService.

        Whether a deleted one is unknown or shown as DELETED is on no page.
        https://docs.aws.amazon.com/healthimaging/latest/APIReference/API_GetImageSet.html
        """
        try:
            with errors():
                answer = self._client.get_image_set(
                    datastoreId=datastore_id, imageSetId=image_set_id
                )
        except ImportUnknown:
            return False
        deleting = answer.get("imageSetWorkflowStatus") in ("DELETING", "DELETED")
        return answer["imageSetState"] != "DELETED" and not deleting

    def inventory(self, datastore_id: str, study_instance_uid: str) -> Mapping[str, Held]:
        """See ImportService; of a data store that is gone, none."""
        try:
            with errors():
                return read_inventory(self._client, datastore_id, study_instance_uid)
        except ImportUnknown:
            return {}


@contextmanager
def errors() -> Iterator[None]:
    """Raises ImportThrottled, ImportQuotaExceeded, ServiceUnavailable or ImportRefused.

    An ImportRefused is an ImportUnknown where HealthImaging does not know what was asked for. What
    is not known to be permanent is a ServiceUnavailable: it is tried again.

    ImportRefused has AWS's message, which speaks of roles, buckets and patterns, without the values
    that a ValidationException quotes: a forged manifest may have named the data store.
    """
    try:
        # Before mapped_errors, which calls every kind of throttling ServiceUnavailable.
        with mapped_errors(), _paced():
            yield
    except ParamValidationError as error:
        raise ImportRefused(f"the request is malformed: {error}") from error
    except ClientError as error:
        code = error_code(error)
        if code not in _PERMANENT:
            # ConflictException, say: a clientToken that was used with other parameters has a job.
            raise ServiceUnavailable(f"{error.operation_name} failed: {code}") from error
        said = error.response.get("Error", {}).get("Message", "")
        message = f"{code}: {_QUOTED.sub('The value at ', said)}"
        raise _PERMANENT[code](message) from error


@contextmanager
def _paced() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        if error_code(error) == "ThrottlingException":
            raise ImportThrottled(f"{error.operation_name} is throttled") from error
        if error_code(error) == "ServiceQuotaExceededException":
            raise ImportQuotaExceeded("the data store runs as many jobs as it may") from error
        raise
