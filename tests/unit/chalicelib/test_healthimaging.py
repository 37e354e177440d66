from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError
from botocore.stub import Stubber
from chalicelib import aws
from chalicelib.aws import mapped_errors
from chalicelib.errors import (
    ImportQuotaExceeded,
    ImportRefused,
    ImportThrottled,
    ServiceUnavailable,
)
from chalicelib.imports.healthimaging import HealthImaging, ImportRequest, ImportView

from contract.errors import ProductError
from contract.records import JobStatus
from tests.unit.chalicelib.builders import BATCH, DATASTORE, NOW

ROLE = "arn:aws:iam::123456789012:role/import"
STARTED = {
    "datastoreId": DATASTORE,
    "jobId": "job1",
    "jobStatus": "SUBMITTED",
    "submittedAt": NOW,
}
REQUEST = ImportRequest(BATCH, DATASTORE, ROLE, "s3://dicom/x/", "s3://results/x/")


def test_the_batchs_id_is_the_jobs_name_and_its_client_token(client: Any, answers: Stubber) -> None:
    expected = {
        "jobName": BATCH,
        "clientToken": BATCH,
        "datastoreId": DATASTORE,
        "dataAccessRoleArn": ROLE,
        "inputS3Uri": "s3://dicom/x/",
        "outputS3Uri": "s3://results/x/",
    }
    answers.add_response("start_dicom_import_job", STARTED, expected)
    assert HealthImaging(client).start(REQUEST) == "job1"


def test_a_job_is_looked_at(client: Any, answers: Stubber) -> None:
    properties = {
        "jobId": "job1",
        "jobName": BATCH,
        "jobStatus": "FAILED",
        "datastoreId": DATASTORE,
        "dataAccessRoleArn": ROLE,
        "inputS3Uri": "s3://dicom/x/",
        "outputS3Uri": "s3://results/x/",
        "message": "it broke",
    }
    answers.add_response(
        "get_dicom_import_job",
        {"jobProperties": properties},
        {"datastoreId": DATASTORE, "jobId": "job1"},
    )
    view = HealthImaging(client).look(DATASTORE, "job1")
    assert view == ImportView(JobStatus.FAILED, "s3://results/x/", "it broke", None, BATCH)


def test_a_job_that_healthimaging_does_not_know_is_none(client: Any, answers: Stubber) -> None:
    code = "ResourceNotFoundException"
    answers.add_client_error("get_dicom_import_job", code, http_status_code=404)
    assert HealthImaging(client).look(DATASTORE, "job1") is None


def listed(*names: str, further: str | None = None) -> dict[str, Any]:
    jobs = [
        STARTED | {"jobId": f"{number}{name[-1]}", "jobName": name, "dataAccessRoleArn": ROLE}
        for number, name in enumerate(names)
    ]
    return {"jobSummaries": jobs} | ({"nextToken": further} if further else {})


@pytest.mark.parametrize(
    ("state", "status", "kept"),
    [
        ("ACTIVE", "UPDATED", True),
        ("LOCKED", "UPDATING", True),
        ("LOCKED", "DELETING", False),
        ("DELETED", "DELETED", False),
    ],
)
def test_an_image_set_is_kept_until_it_is_being_deleted(
    client: Any, answers: Stubber, state: str, status: str, kept: bool
) -> None:
    image_set = {
        "datastoreId": DATASTORE,
        "imageSetId": "a" * 32,
        "versionId": "1",
        "imageSetState": state,
        "imageSetWorkflowStatus": status,
    }
    asked = {"datastoreId": DATASTORE, "imageSetId": "a" * 32}
    answers.add_response("get_image_set", image_set, asked)
    assert HealthImaging(client).keeps(DATASTORE, "a" * 32) is kept


def test_an_image_set_that_healthimaging_does_not_know_is_not_kept(
    client: Any, answers: Stubber
) -> None:
    code = "ResourceNotFoundException"
    answers.add_client_error("get_image_set", code, http_status_code=404)
    assert not HealthImaging(client).keeps(DATASTORE, "a" * 32)


def test_a_job_is_found_by_its_name_in_the_order_of_a_jobs_life(
    client: Any, answers: Stubber
) -> None:
    asked = {"datastoreId": DATASTORE, "maxResults": 50}
    first, second = asked | {"jobStatus": "SUBMITTED"}, asked | {"jobStatus": "IN_PROGRESS"}
    answers.add_response("list_dicom_import_jobs", listed("a", "b"), first)
    answers.add_response("list_dicom_import_jobs", listed("c", further="t"), second)
    answers.add_response("list_dicom_import_jobs", listed("d", BATCH), second | {"nextToken": "t"})
    found = HealthImaging(client).find(DATASTORE, BATCH, list(JobStatus))
    assert found == f"1{BATCH[-1]}"


def test_a_job_that_is_nowhere_is_not_found(client: Any, answers: Stubber) -> None:
    for status in (JobStatus.SUBMITTED, JobStatus.COMPLETED):
        asked = {"datastoreId": DATASTORE, "maxResults": 50, "jobStatus": status.value}
        answers.add_response("list_dicom_import_jobs", listed("a"), asked)
    statuses = (JobStatus.SUBMITTED, JobStatus.COMPLETED)
    assert HealthImaging(client).find(DATASTORE, BATCH, statuses) is None


def test_2_000_completed_jobs_are_searched_and_no_more(client: Any, answers: Stubber) -> None:
    asked = {"datastoreId": DATASTORE, "maxResults": 50, "jobStatus": "COMPLETED"}
    for last, found in ((BATCH, f"49{BATCH[-1]}"), ("a", None)):
        for page in range(1, 41):
            names = ["a"] * 49 + [last if page == 40 else "a"]
            where = {"nextToken": f"t{page - 1}"} if page > 1 else {}
            # The list goes on behind the 40th page too, where nobody asks it.
            answer = listed(*names, further=f"t{page}")
            answers.add_response("list_dicom_import_jobs", answer, asked | where)
        assert HealthImaging(client).find(DATASTORE, BATCH, [JobStatus.COMPLETED]) == found


def test_a_list_that_is_throttled_says_nothing(client: Any, answers: Stubber) -> None:
    answers.add_client_error("list_dicom_import_jobs", "ThrottlingException", http_status_code=429)
    with pytest.raises(ImportThrottled):
        HealthImaging(client).find(DATASTORE, BATCH, [JobStatus.SUBMITTED])


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        ("ThrottlingException", 429, ImportThrottled),
        ("ServiceQuotaExceededException", 402, ImportQuotaExceeded),
        ("InternalServerException", 500, ServiceUnavailable),
        ("ServiceUnavailable", 503, ServiceUnavailable),
        ("ValidationException", 400, ImportRefused),
        ("AccessDeniedException", 403, ImportRefused),
        ("ResourceNotFoundException", 404, ImportRefused),
        ("ConflictException", 409, ServiceUnavailable),
        # What is not known to be permanent may work later.
        ("UnrecognizedClientException", 403, ServiceUnavailable),
        ("InvalidSignatureException", 403, ServiceUnavailable),
        ("SomethingNewException", 400, ServiceUnavailable),
    ],
)
def test_each_of_awss_errors_becomes_one_the_state_machine_knows(
    client: Any, answers: Stubber, code: str, status: int, error: type[ProductError]
) -> None:
    for _ in range(2):
        answers.add_client_error(
            "start_dicom_import_job", code, "said by AWS", http_status_code=status
        )
    with pytest.raises(error):
        HealthImaging(client).start(REQUEST)
    with pytest.raises(error) as raised:
        HealthImaging(client).start(REQUEST)
    assert ("said by AWS" in str(raised.value)) == (error is ImportRefused)


def test_a_request_that_botocore_refuses_is_permanent(client: Any) -> None:
    with pytest.raises(ImportRefused, match="malformed"):
        HealthImaging(client).start(replace(REQUEST, datastore_id=7))  # type: ignore[arg-type]


@pytest.mark.parametrize("lost", [EndpointConnectionError, ReadTimeoutError])
def test_a_lost_connection_may_work_later(lost: type[Exception]) -> None:
    error = lost(endpoint_url="http://127.0.0.1")  # type: ignore[call-arg]
    with pytest.raises(ServiceUnavailable), mapped_errors():
        raise error


@pytest.mark.parametrize(
    "code",
    [
        "KMS.ThrottlingException",
        "OperationAborted",
        "ConditionalRequestConflict",
        "TransactionConflict",
        "TransactionConflictException",
        "RequestLimitExceeded",
        "ThrottledException",
        "ExpiredTokenException",
    ],
)
def test_what_awss_own_moment_forbids_may_work_later(code: str) -> None:
    error = ClientError({"Error": {"Code": code}}, "PutObject")
    with pytest.raises(ServiceUnavailable, match=code), mapped_errors():
        raise error


def test_a_start_is_sent_once_so_that_a_second_one_is_never_hidden(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    aws.forget_clients()
    starts: Any = aws.healthimaging_starts().meta.config
    asks: Any = aws.healthimaging().meta.config
    assert starts.retries["total_max_attempts"] == 1
    assert asks.retries["total_max_attempts"] > 1
    aws.forget_clients()
