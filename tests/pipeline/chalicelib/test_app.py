"""The Chalice app as Lambda and API Gateway call it, on moto's services."""

import json
from typing import Any

import app
import pytest
from chalice.app import IAMAuthorizer
from chalice.test import Client
from chalicelib import aws
from chalicelib.errors import MessagesFailed, ServiceUnavailable, SettingsError


@pytest.fixture(autouse=True)
def _queue(_aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of what a function needs, only what the API and the queue's consumer do.
    for name in ("DATA_ACCESS_ROLE_ARN", "RESULTS_BUCKET"):
        monkeypatch.delenv(name)
    aws.sqs().create_queue(QueueName="dicom-import")


def get(path: str) -> tuple[int, str, Any]:
    with Client(app.app) as client:
        answer = client.http.get(path)
    return answer.status_code, answer.headers.get("Content-Type", ""), answer.json_body


@pytest.mark.filterwarnings("ignore:IAMAuthorizer")
@pytest.mark.parametrize(
    ("path", "status", "parameter"),
    [
        ("/jobs/nope", 404, None),
        ("/jobs/nope/instances", 404, None),
        ("/studies/1.2.3", 404, None),
        ("/studies/abc", 400, "studyInstanceUID"),
        ("/jobs?limit=abc", 400, "limit"),
        ("/jobs?limit=0", 400, "limit"),
        ("/jobs?status=DONE", 400, "status"),
        ("/jobs?study=a", 400, "study"),
        ("/jobs?from=yesterday", 400, "from"),
        ("/jobs?cursor=x", 400, "cursor"),
        ("/jobs?colour=red", 400, "colour"),
        ("/jobs/nope?colour=red", 400, "colour"),
        ("/health?colour=red", 400, "colour"),
        ("/batches?state=DONE", 400, "state"),
        ("/batches/nope", 400, "batchId"),
        ("/batches/20261123T093000Z-0001020304050607", 404, None),
        ("/instances/1.2.3", 404, None),
    ],
)
def test_what_is_wrong_is_answered_as_a_problem(
    path: str, status: int, parameter: str | None
) -> None:
    code, media_type, body = get(path)
    assert (code, media_type, body["status"]) == (status, "application/problem+json", status)
    assert body.get("parameter") == parameter
    assert body["title"]
    assert body["instance"].startswith("/")


@pytest.mark.filterwarnings("ignore:IAMAuthorizer")
def test_an_unexpected_error_shows_no_insides_and_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("a secret")

    monkeypatch.setattr("chalicelib.api.resources.list_jobs", broken)
    code, media_type, body = get("/jobs")
    assert (code, media_type) == (500, "application/problem+json")
    logged = capsys.readouterr().out
    assert "secret" not in json.dumps(body) + logged
    assert logged.count("api_failed") == 1


@pytest.mark.filterwarnings("ignore:IAMAuthorizer")
def test_a_service_that_is_away_is_a_503(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise ServiceUnavailable("Query failed")

    monkeypatch.setattr("chalicelib.api.resources.list_jobs", away)
    assert get("/jobs")[0] == 503


def test_health_needs_no_service_and_no_authorizer() -> None:
    assert get("/health")[2]["status"] == "ok"
    assert app.app.routes["/health"]["GET"].authorizer is None


def test_every_other_route_asks_iam() -> None:
    others = [
        entry
        for path, methods in app.app.routes.items()
        for entry in methods.values()
        if path != "/health"
    ]
    assert len(others) == 11
    assert all(isinstance(each.authorizer, IAMAuthorizer) for each in others)


def test_a_poison_message_is_raised_after_its_neighbour_is_deleted() -> None:
    sqs = aws.sqs()
    url = sqs.get_queue_url(QueueName="dicom-import")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody=json.dumps({"Event": "s3:TestEvent"}))
    (message,) = sqs.receive_message(QueueUrl=url)["Messages"]
    with Client(app.app) as client:
        event = client.events.generate_sqs_event(["ignored", "no JSON"], "dicom-import")
        event["Records"][0]["body"] = message["Body"]
        event["Records"][0]["receiptHandle"] = message["ReceiptHandle"]
        with pytest.raises(MessagesFailed, match="1 of 2"):
            client.lambda_.invoke("trigger_import", event)
    counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert counts["ApproximateNumberOfMessagesNotVisible"] == "0"


def test_a_function_names_the_settings_it_misses() -> None:
    batch_id = "20261123T093000Z-0001020304050607"
    event = {"batchId": batch_id, "bucket": "dicom", "manifestKey": f"batches/{batch_id}.json"}
    with (
        Client(app.app) as client,
        pytest.raises(
            SettingsError, match=r"DATA_ACCESS_ROLE_ARN is not set.*RESULTS_BUCKET is not set"
        ),
    ):
        client.lambda_.invoke("start_import_job", event)
