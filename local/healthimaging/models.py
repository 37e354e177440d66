"""The backend: one account's data stores in one Region. (moto looks for ``urls`` beside it.)

https://docs.aws.amazon.com/healthimaging/latest/APIReference/API_Operations.html
"""

import re
import threading
import uuid
from collections.abc import Mapping
from typing import Any

from moto.core.base_backend import BackendDict, BaseBackend

from local.healthimaging.deletions import ImageSetDeletions
from local.healthimaging.dicom_reader import parsed
from local.healthimaging.emulator import EMULATOR
from local.healthimaging.errors import (
    AccessDeniedException,
    ConflictException,
    ResourceNotFoundException,
    ServiceQuotaExceededException,
    ThrottlingException,
)
from local.healthimaging.image_sets import ImageSet, Version
from local.healthimaging.jobs import ImportRunner
from local.healthimaging.metadata import metadata_document, split_frame_id
from local.healthimaging.pixels import frames
from local.healthimaging.quotas import QUOTAS, QuotaProfile, Quotas, TokenBucket
from local.healthimaging.records import Datastore, ImportJob, job_output_uri
from local.healthimaging.storage import S3Objects, StoredFiles

Params = Mapping[str, Any]

# https://docs.aws.amazon.com/general/latest/gr/healthimaging.html
REGIONS = ("us-east-1", "us-west-2", "ap-southeast-2", "eu-west-1", "eu-west-2")

# "Import jobs are retained in the list of jobs for 90 days and then archived."
JOB_RETENTION_SECONDS = 90 * 24 * 3600

_DATASTORE_OPTIONS = ("kmsKeyArn", "lambdaAuthorizerArn", "losslessStorageFormat")


class MedicalImagingBackend(BaseBackend):
    """Every operation, on parameters that were checked against the service model."""

    def __init__(self, region_name: str, account_id: str) -> None:
        super().__init__(region_name, account_id)
        self._lock = threading.RLock()
        self._datastores: dict[str, Datastore] = {}
        self._tags: dict[str, dict[str, str]] = {}
        self._buckets: dict[tuple[QuotaProfile, str], TokenBucket] = {}
        # What each clientToken was first used for, the id of what it made, and when.
        self._client_tokens: dict[tuple[str, str], tuple[Params, str, float]] = {}
        self._files = StoredFiles()
        self._runner = ImportRunner(
            EMULATOR, S3Objects(account_id, region_name), self._files, self._lock
        )
        self._deletions = ImageSetDeletions(EMULATOR, self._lock)

    def reset(self) -> None:
        """Forget everything, as moto's reset does; jobs and deletions under way end nowhere."""
        self._runner.close()
        self._deletions.close()
        self._files.close()
        super().reset()

    def admit(self, operation: str) -> None:
        """Take a token for one call, or throttle it; a call that is denied takes none."""
        now, options = EMULATOR.scheduler.now(), EMULATOR.options
        if options.denies(operation):
            raise AccessDeniedException(f"Not authorized to perform: medical-imaging:{operation}")
        if EMULATOR.is_throttling():
            raise ThrottlingException("Rate exceeded")
        rate = QUOTAS[options.quota_profile].rates.get(operation)
        if rate is None:
            return
        key = (options.quota_profile, operation)
        with self._lock:
            bucket = self._buckets.get(key, TokenBucket.full(rate, now)).take(now)
            if bucket is None:
                raise ThrottlingException("Rate exceeded")
            self._buckets[key] = bucket

    def create_datastore(self, params: Params) -> Datastore:
        """A new data store, ACTIVE at once."""
        with self._lock:
            known = self._replayed("", params)
            if known is not None:
                return self.datastore(known)
            limit = self._quotas.datastores
            if limit is not None and len(self._datastores) >= limit:
                raise ServiceQuotaExceededException(f"The quota of data stores is {limit}")
            datastore = self._new_datastore(params)
            self._datastores[datastore.datastore_id] = datastore
            self._tags[datastore.arn] = dict(params.get("tags") or {})
            self._remember("", params, datastore.datastore_id)
            return datastore

    def datastore(self, datastore_id: str) -> Datastore:
        """A data store of this account and Region."""
        try:
            return self._datastores[datastore_id]
        except KeyError:
            raise ResourceNotFoundException(f"Datastore {datastore_id} not found") from None

    def datastores(self, status: str | None) -> list[Datastore]:
        """Data stores by age; all there are are ACTIVE."""
        return list(self._datastores.values()) if status in {None, "ACTIVE"} else []

    def delete_datastore(self, datastore_id: str) -> None:
        """Remove an empty data store."""
        with self._lock:
            datastore = self.datastore(datastore_id)
            if datastore.image_sets or any(job.is_live for job in datastore.jobs.values()):
                raise ConflictException(f"Datastore {datastore_id} is not empty")
            del self._datastores[datastore_id], self._tags[datastore.arn]

    def start_import_job(self, params: Params) -> ImportJob:
        """A job on its way, or the one that this clientToken already started."""
        with self._lock:
            datastore = self.datastore(params["datastoreId"])
            known = self._replayed(datastore.datastore_id, params)
            if known is not None:
                return datastore.jobs[known]
            limit = self._quotas.import_jobs_in(self.region_name)
            live = sum(job.is_live for job in datastore.jobs.values())
            if limit is not None and live >= limit:
                raise ServiceQuotaExceededException(f"The quota of concurrent jobs is {limit}")
            job = _new_job(params, EMULATOR.scheduler.now())
            self._runner.submit(datastore, job)
            self._remember(datastore.datastore_id, params, job.job_id)
            return job

    def import_job(self, datastore_id: str, job_id: str) -> ImportJob:
        """A job that was started less than 90 days ago."""
        for job in self.import_jobs(datastore_id, None):
            if job.job_id == job_id:
                return job
        raise ResourceNotFoundException(f"Import job {job_id} not found")

    def import_jobs(self, datastore_id: str, status: str | None) -> list[ImportJob]:
        """A data store's jobs by age, without those archived after 90 days."""
        oldest = EMULATOR.scheduler.now() - JOB_RETENTION_SECONDS
        with self._lock:
            return [
                job
                for job in self.datastore(datastore_id).jobs.values()
                if job.submitted_at > oldest and status in {None, job.status}
            ]

    def image_set(self, datastore_id: str, image_set_id: str) -> ImageSet:
        """An image set with all its versions."""
        try:
            return self.datastore(datastore_id).image_sets[image_set_id]
        except KeyError:
            raise ResourceNotFoundException(f"Image set {image_set_id} not found") from None

    def shown_image_set(self, datastore_id: str, image_set_id: str) -> ImageSet:
        """An image set as GetImageSet has it: with the option, a deleted one, too."""
        deleted = self.datastore(datastore_id).deleted_image_sets.get(image_set_id)
        if deleted is not None and EMULATOR.options.deleted_image_sets_shown:
            return deleted
        return self.image_set(datastore_id, image_set_id)

    def delete_image_set(self, datastore_id: str, image_set_id: str) -> ImageSet:
        """The image set, locked; soon it is gone."""
        with self._lock:
            image_set = self.image_set(datastore_id, image_set_id)
            return self._deletions.begin(self.datastore(datastore_id), image_set)

    def version(self, image_set: ImageSet, version_id: str | None) -> Version:
        """The version asked for, or the latest."""
        if version_id is None:
            return image_set.latest
        for version in image_set.versions:
            if str(version.number) == version_id:
                return version
        raise ResourceNotFoundException(f"Image set version {version_id} not found")

    def image_set_metadata(
        self, datastore_id: str, image_set_id: str, version_id: str | None
    ) -> bytes:
        """The metadata document, uncompressed."""
        image_set = self.image_set(datastore_id, image_set_id)
        version = self.version(image_set, version_id)
        age = EMULATOR.scheduler.now() - image_set.updated_at
        if age < EMULATOR.options.metadata_lag_seconds:
            raise ConflictException(
                "Requested ImageSet metadata is not consistent yet. "
                "Please retry after a few seconds."
            )
        return metadata_document(datastore_id, image_set_id, version, self._files.read)

    def image_frame(
        self, datastore_id: str, image_set_id: str, image_frame_id: str
    ) -> tuple[bytes, str]:
        """A frame as it is stored, and its transfer syntax."""
        image_set = self.image_set(datastore_id, image_set_id)
        stored_id, index = split_frame_id(image_frame_id) or ("", 0)
        for version in image_set.versions:
            for instance in version.instances.values():
                if instance.stored_id == stored_id:
                    found = parsed(self._files.read(stored_id), frames, pixels=True)
                    if index < len(found):
                        return found[index], instance.transfer_syntax_uid
        raise ResourceNotFoundException(f"Image frame {image_frame_id} not found")

    def stored_file(self, stored_id: str) -> bytes:
        """An imported file as it was read, for whoever proves what a data store has."""
        return self._files.read(stored_id)

    def tags(self, arn: str) -> dict[str, str]:
        """The tags of a data store or an image set, to read and to change."""
        match = re.fullmatch(
            r"(?P<datastore>.*/(?P<id>[^/]{32}))(/imageset/(?P<image_set>.*))?", arn
        )
        datastore = self._datastores.get(match["id"]) if match else None
        if not match or datastore is None or datastore.arn != match["datastore"]:
            raise ResourceNotFoundException(f"Resource {arn} not found")
        if match["image_set"]:
            self.image_set(datastore.datastore_id, match["image_set"])
        return self._tags.setdefault(arn, {})

    @property
    def _quotas(self) -> Quotas:
        return QUOTAS[EMULATOR.options.quota_profile]

    def _new_datastore(self, params: Params) -> Datastore:
        datastore_id = uuid.uuid4().hex
        scope = f"{self.partition}:medical-imaging:{self.region_name}:{self.account_id}"
        return Datastore(
            datastore_id=datastore_id,
            # Optional in the request and required in the answer: no page tells the value.
            name=params.get("datastoreName") or datastore_id,
            arn=f"arn:{scope}:datastore/{datastore_id}",
            created_at=EMULATOR.scheduler.now(),
            options={key: params[key] for key in _DATASTORE_OPTIONS if params.get(key)},
        )

    def _replayed(self, scope: str, params: Params) -> str | None:
        """What this clientToken made before, if it did and ``client_token_seconds`` are not over.

        No page tells what another body gets: the ConflictException of the error list.
        """
        known = self._client_tokens.get((scope, params["clientToken"]))
        if known is None:
            return None
        body, made, used_at = known
        remembered = EMULATOR.options.client_token_seconds
        if remembered is not None and EMULATOR.scheduler.now() - used_at >= remembered:
            return None
        if body != params:
            raise ConflictException("The clientToken was used with other parameters")
        return made

    def _remember(self, scope: str, params: Params, made: str) -> None:
        now = EMULATOR.scheduler.now()
        self._client_tokens[scope, params["clientToken"]] = (params, made, now)


def _new_job(params: Params, now: float) -> ImportJob:
    job_id = uuid.uuid4().hex
    return ImportJob(
        job_id=job_id,
        # Optional in the request and required in the answer: no page tells the value.
        job_name=params.get("jobName") or job_id,
        datastore_id=params["datastoreId"],
        data_access_role_arn=params["dataAccessRoleArn"],
        input_s3_uri=params["inputS3Uri"],
        output_s3_uri=job_output_uri(params["outputS3Uri"], params["datastoreId"], job_id),
        input_owner_account_id=params.get("inputOwnerAccountId"),
        submitted_at=now,
    )


medicalimaging_backends = BackendDict(
    MedicalImagingBackend,
    "medical-imaging",
    use_boto3_regions=False,
    additional_regions=list(REGIONS),
)
