"""AWS in this process, for tests that need no more than its buckets and tables."""

from collections.abc import Iterator

import boto3
import pytest
import structlog
from chalicelib import wiring
from chalicelib.stores.schema import table_definitions
from moto import mock_aws

BUCKET, RESULTS = "dicom", "results"
STATE_MACHINE = "arn:aws:states:us-east-1:123456789012:stateMachine:dicom-import"


@pytest.fixture
def _aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in {
        "AWS_DEFAULT_REGION": "us-east-1",
        "DICOM_BUCKET": BUCKET,
        "RESULTS_BUCKET": RESULTS,
        "STATE_MACHINE_ARN": STATE_MACHINE,
        "DATASTORE_ID": "0" * 32,
    }.items():
        monkeypatch.setenv(name, value)
    wiring.forget()
    with mock_aws():
        for definition in table_definitions():
            boto3.client("dynamodb").create_table(**definition)
        for bucket in (BUCKET, RESULTS):
            boto3.client("s3").create_bucket(Bucket=bucket)
        yield
    wiring.forget()
    structlog.reset_defaults()
