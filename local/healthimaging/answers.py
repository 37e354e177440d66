"""The emulator's records in the shapes of the API. botocore's model leaves out members of None.

https://docs.aws.amazon.com/healthimaging/latest/APIReference/API_Types.html
"""

from collections import Counter
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from local.healthimaging.image_sets import ImageSet, Version
from local.healthimaging.records import Datastore, ImportJob

Answer = dict[str, Any]

# DICOMTags' members, by DICOM keyword.
_TAGS = {
    "PatientID": "DICOMPatientId",
    "PatientName": "DICOMPatientName",
    "PatientBirthDate": "DICOMPatientBirthDate",
    "PatientSex": "DICOMPatientSex",
    "StudyInstanceUID": "DICOMStudyInstanceUID",
    "StudyID": "DICOMStudyId",
    "StudyDescription": "DICOMStudyDescription",
    "AccessionNumber": "DICOMAccessionNumber",
    "SeriesInstanceUID": "DICOMSeriesInstanceUID",
    "Modality": "DICOMSeriesModality",
    "BodyPartExamined": "DICOMSeriesBodyPart",
    "StudyDate": "DICOMStudyDate",
    "StudyTime": "DICOMStudyTime",
}


def datastore_summary(datastore: Datastore) -> Answer:
    """A DatastoreSummary. A data store is never changed, so it was updated when it was created."""
    return {
        "datastoreId": datastore.datastore_id,
        "datastoreName": datastore.name,
        "datastoreStatus": "ACTIVE",
        "datastoreArn": datastore.arn,
        "createdAt": _when(datastore.created_at),
        "updatedAt": _when(datastore.created_at),
    }


def datastore_properties(datastore: Datastore) -> Answer:
    """DatastoreProperties."""
    return datastore_summary(datastore) | dict(datastore.options)


def job_started(job: ImportJob) -> Answer:
    """StartDICOMImportJob's answer."""
    return {
        "datastoreId": job.datastore_id,
        "jobId": job.job_id,
        "jobStatus": job.status,
        "submittedAt": _when(job.submitted_at),
    }


def job_summary(job: ImportJob) -> Answer:
    """A DICOMImportJobSummary."""
    return job_started(job) | {
        "jobName": job.job_name,
        "dataAccessRoleArn": job.data_access_role_arn,
        "endedAt": None if job.ended_at is None else _when(job.ended_at),
        "message": job.message,
    }


def job_properties(job: ImportJob) -> Answer:
    """DICOMImportJobProperties."""
    return job_summary(job) | {
        "inputS3Uri": job.input_s3_uri,
        "outputS3Uri": job.output_s3_uri,
    }


def image_set_properties(image_set: ImageSet, version: Version) -> Answer:
    """ImageSetProperties of one version."""
    return {
        "imageSetId": image_set.image_set_id,
        "versionId": str(version.number),
        "imageSetState": image_set.state,
        "ImageSetWorkflowStatus": image_set.workflow_status(version),
        "createdAt": _when(image_set.created_at),
        "updatedAt": _when(version.created_at),
        "deletedAt": None if image_set.deleted_at is None else _when(image_set.deleted_at),
        "isPrimary": image_set.is_primary,
    }


def image_set_answer(datastore: Datastore, image_set: ImageSet, version: Version) -> Answer:
    """GetImageSet's answer, which spells a member of ImageSetProperties in another way."""
    properties = image_set_properties(image_set, version)
    return properties | {
        "datastoreId": datastore.datastore_id,
        "imageSetWorkflowStatus": properties["ImageSetWorkflowStatus"],
        "imageSetArn": datastore.arn_of(image_set),
        "storageTier": "FREQUENT_ACCESS",
    }


def image_set_deleting(datastore: Datastore, image_set: ImageSet) -> Answer:
    """DeleteImageSet's answer."""
    return {
        "datastoreId": datastore.datastore_id,
        "imageSetId": image_set.image_set_id,
        "imageSetState": image_set.state,
        "imageSetWorkflowStatus": image_set.workflow_status(image_set.latest),
    }


def image_set_summaries(
    found: Collection[ImageSet], all_image_sets: Collection[ImageSet]
) -> list[Answer]:
    """ImageSetsMetadataSummary of each image set; a study is counted over the whole data store."""
    series, instances = Counter[str](), Counter[str]()
    for each in all_image_sets:
        if each.is_active_primary:
            study = each.latest.representative.attributes["StudyInstanceUID"]
            series[study] += 1
            instances[study] += len(each.latest.instances)
    return [_image_set_summary(each, series, instances) for each in found]


def _image_set_summary(
    image_set: ImageSet, series: Mapping[str, int], instances: Mapping[str, int]
) -> Answer:
    attributes = image_set.latest.representative.attributes
    study = attributes["StudyInstanceUID"]
    tags: Answer = {
        member: attributes[keyword] for keyword, member in _TAGS.items() if attributes[keyword]
    }
    return {
        "imageSetId": image_set.image_set_id,
        "version": image_set.latest.number,
        "createdAt": _when(image_set.created_at),
        "updatedAt": _when(image_set.updated_at),
        "storageTier": "FREQUENT_ACCESS",
        "isPrimary": image_set.is_primary,
        "DICOMTags": tags
        | {
            "DICOMSeriesNumber": _integer(attributes["SeriesNumber"]),
            "DICOMNumberOfStudyRelatedSeries": series[study],
            "DICOMNumberOfStudyRelatedInstances": instances[study],
        },
    }


def _integer(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


def _when(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
