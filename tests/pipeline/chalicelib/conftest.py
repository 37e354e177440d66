"""AWS in this process, for tests that need no more than its buckets and tables."""

from collections.abc import Iterator

import pytest
import structlog

from tests.pipeline import aws_mock

BUCKET, RESULTS = "dicom", "results"
STATE_MACHINE = "arn:aws:states:us-east-1:123456789012:stateMachine:dicom-import"


@pytest.fixture(scope="module")
def moto_runs() -> Iterator[None]:
    """One moto for all tests of a module."""
    with aws_mock.running():
        yield


@pytest.fixture
def _no_aws(moto_runs: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """AWS with nothing in it, and what the Lambdas are told in their environment."""
    for name, value in {
        "DICOM_BUCKET": BUCKET,
        "RESULTS_BUCKET": RESULTS,
        "STATE_MACHINE_ARN": STATE_MACHINE,
        "DATASTORE_ID": "0" * 32,
        "DATA_ACCESS_ROLE_ARN": "arn:aws:iam::123456789012:role/import",
    }.items():
        monkeypatch.setenv(name, value)
    aws_mock.reset()
    yield
    aws_mock.reset()
    structlog.reset_defaults()


@pytest.fixture
def _aws(_no_aws: None) -> None:
    """AWS with the tables and the buckets."""
    aws_mock.create(BUCKET, RESULTS)
