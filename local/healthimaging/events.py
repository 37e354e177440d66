"""What HealthImaging tells EventBridge of a job that has ended, and of an image set's deletion.

https://docs.aws.amazon.com/healthimaging/latest/devguide/event-notifications.html
"""

from local.healthimaging.image_sets import ImageSet, ImageSetState
from local.healthimaging.records import ImportJob, JobStatus

# An event's detail-type and detail.
Event = tuple[str, dict[str, object]]

_JOB_EVENTS = {
    JobStatus.COMPLETED: "Import Job Completed",
    JobStatus.FAILED: "Import Job Failed",
}
_IMAGE_SET_EVENTS = {
    ImageSetState.LOCKED: "Image Set Deleting",
    ImageSetState.DELETED: "Image Set Deleted",
}


def ended_event(job: ImportJob) -> Event:
    """A job has ended; counts are in the result files only."""
    return _JOB_EVENTS[job.status], {
        "imagingVersion": "1.0",
        "datastoreId": job.datastore_id,
        "jobId": job.job_id,
        "jobName": job.job_name,
        "jobStatus": str(job.status),
        "inputS3Uri": job.input_s3_uri,
        "outputS3Uri": job.output_s3_uri,
    }


def deletion_event(datastore_id: str, image_set: ImageSet) -> Event:
    """An image set is being deleted, or has been.

    The page spells a member ``imagesetId``; the CDK's ``ImageSetDeletedProps``, which is made from
    EventBridge's schema, has ``imageSetId``.
    """
    return _IMAGE_SET_EVENTS[image_set.state], {
        "imagingVersion": "1.0",
        "isPrimary": image_set.is_primary,
        "imageSetVersion": str(image_set.latest.number),
        "datastoreId": datastore_id,
        "imagesetId": image_set.image_set_id,
        "imageSetState": str(image_set.state),
        "imageSetWorkflowStatus": image_set.workflow_status(image_set.latest),
    }
