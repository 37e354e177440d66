"""What the tables' items are made of: names that others read, written out by hand."""

from chalicelib.stores.items import job_item, job_row

from contract.records import Counts, JobRecord, JobStatus
from tests.unit.chalicelib.builders import BATCH, DATASTORE, NOW


def test_a_jobs_item_has_the_attributes_that_its_table_promises_all_of_them_strings() -> None:
    """Of a job that has ended, with one instance. Everything else of an item may change."""
    job = JobRecord(
        job_id="0123456789abcdef0123456789abcdef",
        job_status=JobStatus.FAILED,
        batch_id=BATCH,
        datastore_id=DATASTORE,
        data_access_role_arn="arn:aws:iam::123456789012:role/import",
        input_s3_uri=f"s3://dicom/instances/{BATCH}/",
        output_s3_uri=f"s3://results/{BATCH}/",
        submitted_at=NOW,
        calling_ae_title="CT1",
        counts=Counts(1, failed=1),
        study_instance_uid="1.2",
        series_instance_uid="1.2.3",
        sop_instance_uid="1.2.3.1",
        study_date="20261123",
        ended_at=NOW,
        message="why",
    )
    promised = {
        "jobId": "0123456789abcdef0123456789abcdef",
        "jobStatus": "FAILED",
        "submittedAt": "2026-11-23T09:30:00.000000Z",
        "inputS3Uri": f"s3://dicom/instances/{BATCH}/",
        "outputS3Uri": f"s3://results/{BATCH}/",
        "datastoreId": DATASTORE,
        "dataAccessRoleArn": "arn:aws:iam::123456789012:role/import",
        "studyDate": "20261123",
        "studyInstanceUID": "1.2",
        "seriesInstanceUID": "1.2.3",
        "sopInstanceUID": "1.2.3.1",
        "endedAt": "2026-11-23T09:30:00.000000Z",
        "message": "why",
    }
    assert len(promised) == 13
    assert promised.items() <= job_row(job).items()
    assert promised.items() <= job_item(job).items()
