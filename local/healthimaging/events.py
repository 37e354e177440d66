"""What HealthImaging tells EventBridge of a job that has ended.

https://docs.aws.amazon.com/healthimaging/latest/devguide/event-notifications.html
"""

from local.healthimaging.records import ImportJob, JobStatus

_DETAIL_TYPES = {
    JobStatus.COMPLETED: "Import Job Completed",
    JobStatus.FAILED: "Import Job Failed",
}


def ended_event(job: ImportJob) -> tuple[str, dict[str, str]]:
    """The event's detail-type and detail; counts are in the result files only."""
    return _DETAIL_TYPES[job.status], {
        "imagingVersion": "1.0",
        "datastoreId": job.datastore_id,
        "jobId": job.job_id,
        "jobName": job.job_name,
        "jobStatus": str(job.status),
        "inputS3Uri": job.input_s3_uri,
        "outputS3Uri": job.output_s3_uri,
    }
