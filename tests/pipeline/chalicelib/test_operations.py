"""Retry, release, re-drive, reconciliation and the dropbox on moto: by REST and command line."""

import json
import os
import shlex
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import app
import pytest
from chalice.test import Client
from chalicelib import aws, wiring
from chalicelib.api.routes import ROUTES
from chalicelib.deadline import Deadline
from chalicelib.errors import ObjectDenied, ObjectMissing
from chalicelib.imports.aside import failed_key, move_all
from chalicelib.imports.rows import import_request, new_job
from chalicelib.isolation import block
from chalicelib.operations import setup
from chalicelib.operations.command_line import run
from chalicelib.stores.blocked import Work
from chalicelib.stores.files import StoredObject
from chalicelib.stores.jobs import list_key
from chalicelib.stores.s3_files import S3Files

from contract.batch_states import BatchEvent
from contract.keys import InstanceKey, manifest_key
from contract.metadata import Sender, Target, to_metadata
from contract.records import InstanceState
from local.lambdas import event_bridge_event
from tests.pipeline.chalicelib.conftest import BUCKET, RESULTS
from tests.pipeline.chalicelib.schema_check import complaints
from tests.unit.chalicelib.builders import (
    BATCH,
    DATASTORE,
    EXECUTION,
    NOW,
    SETTINGS,
    a_batch,
    a_manifest,
    an_instance,
    instance_row,
    overwrite,
    the_row,
)
from tests.unit.contract.test_part10 import meta
from tests.unit.store_scp.builders import data_set

pytestmark = pytest.mark.filterwarnings("ignore:IAMAuthorizer")
SCHEDULED = event_bridge_event("aws.events", "Scheduled Event", {})
WHY = "the data store was full"


def keep_objects() -> None:
    """Two instances under their batch's prefix, and its manifest."""
    manifest = a_manifest(2)
    S3Files(aws.s3(), BUCKET).put(manifest_key(BATCH), manifest.to_json())
    for each in manifest.instances:
        metadata = to_metadata(
            InstanceKey.parse(each.key), each.sop_class_uid, each.transfer_syntax_uid,
            each.study_date, each.checksum, Sender("CT1", "STORESCP", "10.0.0.1", "a1"),
            Target("study"),
        )  # fmt: skip
        aws.s3().put_object(Bucket=BUCKET, Key=each.key, Body=b"x", Metadata=metadata)


def end_batch(end: BatchEvent) -> None:
    for event in (BatchEvent.CLOSED, BatchEvent.ADMITTED, end):
        assert wiring.stores().batches.move(a_batch(), event)


def keep_partial_batch() -> None:
    """Two instances: one imported, one that failed and stands in quarantine."""
    keep_objects()
    good = instance_row(BATCH, an_instance("1.2.3.1"), InstanceState.IMPORTED, NOW, job_id="j")
    bad = instance_row(
        BATCH, an_instance("1.2.3.2"), InstanceState.FAILED, NOW, job_id="j", reason="why"
    )
    overwrite(wiring.stores().instances, [good, replace(bad, key=failed_key(bad.key))])
    end_batch(BatchEvent.PARTLY_IMPORTED)
    move_all(S3Files(aws.s3(), BUCKET), [bad.key], failed_key, "why")


def keep_imported_batch() -> None:
    """Two instances, both imported."""
    keep_objects()
    imported = InstanceState.IMPORTED
    rows = [
        instance_row(BATCH, each, imported, NOW, job_id="j") for each in a_manifest(2).instances
    ]
    overwrite(wiring.stores().instances, rows)
    end_batch(BatchEvent.IMPORTED)


def call(method: str, path: str, body: object = None) -> tuple[int, Any]:
    """One call, its answer checked against what the API says of itself."""
    raw = b"" if body is None else json.dumps(body).encode()
    with Client(app.app) as client:
        answer = getattr(client.http, method.lower())(path, body=raw)
        document = client.http.get("/openapi.json").json_body
    where = next(
        described
        for route, described in document["paths"].items()
        if fits(route, path.partition("?")[0])
    )
    described = where[method.lower()]["responses"][str(answer.status_code)]["content"]
    # API Gateway fills in JSON where Chalice says nothing.
    media_type = answer.headers.get("Content-Type", "application/json")
    schema = described[media_type]["schema"]
    assert list(complaints(answer.json_body, schema, document)) == []
    return answer.status_code, answer.json_body


def fits(route: str, path: str) -> bool:
    ours, theirs = route.split("/"), path.split("/")
    return len(ours) == len(theirs) and all(
        each.startswith("{") or each == given for each, given in zip(ours, theirs, strict=True)
    )


@pytest.mark.usefixtures("_aws")
def test_every_route_is_described_and_every_description_is_a_route() -> None:
    document = call("GET", "/openapi.json")[1]
    described = {
        (method.upper(), path) for path, methods in document["paths"].items() for method in methods
    }
    served = {(method, path) for path, methods in app.app.routes.items() for method in methods}
    assert described == served == {(each.method, each.path) for each in ROUTES}
    assert document["openapi"].startswith("3.1")
    for route in ROUTES:
        operation = document["paths"][route.path][route.method.lower()]
        names = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
        assert names == set(route.names)
        assert operation.get("security") == ([] if route.path == "/health" else None)


@pytest.mark.usefixtures("_aws")
def test_a_retry_by_rest_is_a_batch_of_what_failed() -> None:
    keep_partial_batch()
    status, asked = call("POST", f"/batches/{BATCH}/retry", {"reason": WHY})
    assert (status, asked["reason"]) == (200, WHY)
    assert call("POST", f"/batches/{BATCH}/retry", {"reason": "again"})[1] == asked
    old, new = (call("GET", f"/batches/{each}")[1] for each in (BATCH, asked["batchId"]))
    assert (old["retriedAs"], old["retryReason"], new["retryOf"]) == (new["batchId"], WHY, BATCH)
    assert (new["request"]["kind"], new["request"]["reason"]) == ("retry", WHY)
    assert "message" not in new
    manifest = json.loads(body_of(manifest_key(new["batchId"])))
    (listed,) = [each["key"] for each in manifest["instances"]]
    assert body_of(listed) == b"x"
    assert keys_under("quarantine/") == []


@pytest.mark.usefixtures("_aws")
def test_a_release_by_rest_is_a_batch_of_its_own() -> None:
    keep_partial_batch()
    status, asked = call("POST", "/instances/1.2.3.2/release", {"reason": WHY})
    assert status == 200
    assert keys_under(f"instances/{asked['batchId']}/") != []
    assert call("POST", "/instances/1.2.3.1/release", {"reason": WHY})[0] == 409
    assert call("POST", "/instances/1.9/release", {"reason": WHY})[0] == 404


@pytest.mark.usefixtures("_aws")
@pytest.mark.parametrize(
    ("path", "count"),
    [(f"/batches/{BATCH}/retry", 2), ("/instances/1.2.3.1/release", 1)],
    ids=["retry", "release"],
)
def test_what_is_imported_is_repeated_by_rest_with_force_and_refused_without(
    path: str, count: int
) -> None:
    keep_imported_batch()
    assert call("POST", path, {"reason": WHY})[0] == 409
    assert call("POST", path, {"reason": WHY, "force": False})[0] == 409
    assert keys_under("batches/") == [manifest_key(BATCH)]
    status, asked = call("POST", path, {"reason": WHY, "force": True})
    assert status == 200
    assert call("GET", f"/batches/{asked['batchId']}")[1]["forced"] is True
    assert len(keys_under(f"instances/{asked['batchId']}/")) == count


@pytest.mark.usefixtures("_aws")
def test_every_resource_answers_as_described() -> None:
    keep_partial_batch()
    study = call("GET", "/studies/1.2")[1]
    assert (study["importedCount"], study["failedCount"]) == (1, 1)
    (instance,) = call("GET", "/instances/1.2.3.2")[1]["instances"]
    assert instance["reason"] == "why"
    first = call("GET", "/batches?state=PARTIAL&callingAeTitle=CT1&limit=1")[1]
    assert [each["batchId"] for each in first["batches"]] == [BATCH]
    assert call("GET", "/health")[0] == 200
    assert call("GET", "/jobs")[1] == {"jobs": []}
    manifest = a_manifest(2)
    request = import_request(manifest, DATASTORE, BUCKET, SETTINGS)
    wiring.stores().jobs.create(new_job(manifest, EXECUTION, request, "j", NOW))
    assert [job["jobId"] for job in call("GET", "/jobs")[1]["jobs"]] == ["j"]
    assert call("GET", "/jobs/j")[1]["instanceCount"] == 2
    states = [each["state"] for each in call("GET", "/jobs/j/instances?limit=2")[1]["instances"]]
    assert states == ["IMPORTED", "FAILED"]


@pytest.mark.usefixtures("_aws")
@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", f"/batches/{BATCH}/retry", None, 400),
        ("POST", f"/batches/{BATCH}/retry", {"reason": ""}, 400),
        ("POST", f"/batches/{BATCH}/retry?force=true", {"reason": WHY}, 400),
        ("POST", f"/batches/{BATCH}/retry", {"reason": WHY}, 404),
        ("POST", "/batches/nope/retry", {"reason": WHY}, 400),
        ("POST", "/instances/abc/release", {"reason": WHY}, 400),
        ("POST", "/instances/1.2/release", {"reason": WHY, "key": "dropbox/x"}, 400),
        ("GET", "/studies/1.2?limit=1", None, 400),
        ("GET", "/jobs//instances", None, 404),
        ("GET", "/openapi.json?x=1", None, 400),
    ],
)
def test_what_is_asked_wrongly_is_a_problem_as_described(
    method: str, path: str, body: object, status: int
) -> None:
    code, problem = call(method, path, body)
    assert (code, problem["status"]) == (status, status)


def keys_under(prefix: str) -> list[str]:
    return [each.key for each in S3Files(aws.s3(), BUCKET).list(prefix)]


def body_of(key: str) -> bytes:
    return S3Files(aws.s3(), BUCKET).read(key, 10**6)


@pytest.mark.usefixtures("_aws")
def test_the_schedule_collects_what_lies_in_the_dropbox() -> None:
    files = S3Files(aws.s3(), BUCKET)
    files.put("dropbox/some folder/a\u00e9.dcm", meta() + data_set())
    files.put("dropbox/notes.txt", b"not DICOM")
    with Client(app.app) as client:
        client.lambda_.invoke("collect_dropbox", SCHEDULED)
    assert keys_under("dropbox/") == []
    assert len(keys_under("batches/")) == len(keys_under("instances/")) == 1
    assert len(keys_under("quarantine/not-part10/")) == 1


@pytest.mark.usefixtures("_aws")
def test_the_schedule_reconciles_into_a_report_and_a_metric(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    S3Files(aws.s3(), BUCKET).put("instances/stray", b"x")
    in_two_days = datetime.now(UTC) + timedelta(days=2)
    monkeypatch.setattr("chalicelib.operations.setup._now", lambda: in_two_days)
    with Client(app.app) as client:
        client.lambda_.invoke("reconcile", SCHEDULED)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (metric,) = [line for line in lines if "_aws" in line]
    assert metric["UnaccountedObjects"] == 1
    (told,) = [line for line in lines if line.get("event") == "reconciled"]
    report = json.loads(S3Files(aws.s3(), RESULTS).read(told["report"], 10**6))
    assert report["unaccounted"] == [{"key": "instances/stray", "why": "not-an-instance-key"}]


@pytest.mark.usefixtures("_aws")
@pytest.mark.parametrize(("seconds", "expected"), [(900, 600), (300, 200)])
def test_a_walk_ends_before_its_invocation_does(
    seconds: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chalicelib.operations.setup._now", lambda: NOW)
    until = Deadline(NOW + timedelta(seconds=seconds))
    assert setup.reconciliation(until).work_for == timedelta(seconds=expected)


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any, str]:
    code = run(arguments)
    said = capsys.readouterr()
    return code, json.loads(said.out) if said.out else None, said.err


@pytest.mark.usefixtures("_aws")
def test_the_command_line_shows_and_repeats(capsys: pytest.CaptureFixture[str]) -> None:
    keep_partial_batch()
    assert command(capsys, "batch", BATCH)[1]["state"] == "PARTIAL"
    assert len(command(capsys, "batches", "--state", "PARTIAL")[1]["batches"]) == 1
    (instance,) = command(capsys, "instance", "1.2.3.2")[1]["instances"]
    assert instance["reason"] == "why"
    assert command(capsys, "study", "1.2")[1]["failedCount"] == 1
    (aside,) = command(capsys, "quarantine", "--prefix", "import-failed")[1]["objects"]
    assert (aside["reason"], aside["size"]) == ("why", 1)
    code, asked, _ = command(capsys, "release", "1.2.3.2", "--reason", WHY)
    assert (code, asked["reason"]) == (0, WHY)
    assert command(capsys, "quarantine")[1] == {"objects": []}


@pytest.mark.usefixtures("_aws")
@pytest.mark.parametrize(
    ("asked", "count"),
    [(("retry", BATCH), 2), (("release", "1.2.3.1"), 1)],
    ids=["retry", "release"],
)
def test_what_is_imported_is_repeated_by_the_command_line_with_force_and_refused_without(
    capsys: pytest.CaptureFixture[str], asked: tuple[str, str], count: int
) -> None:
    keep_imported_batch()
    code, answer, said = command(capsys, *asked, "--reason", WHY)
    assert (code, answer) == (1, None)
    assert "IMPORTED" in said
    assert keys_under("batches/") == [manifest_key(BATCH)]
    code, answer, _ = command(capsys, *asked, "--reason", WHY, "--force")
    assert code == 0
    assert command(capsys, "batch", answer["batchId"])[1]["forced"] is True
    assert len(keys_under(f"instances/{answer['batchId']}/")) == count


@pytest.mark.usefixtures("_aws")
def test_the_command_line_says_why_it_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    code, answer, said = command(capsys, "retry", BATCH, "--reason", WHY)
    assert (code, answer) == (1, None)
    assert "no batch of this id" in said
    with pytest.raises(SystemExit):
        run(["retry", BATCH])


@pytest.mark.usefixtures("_aws")
def test_the_command_line_reconciles(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(capsys, "reconcile")[1]["unaccountedCount"] == 0


@pytest.mark.usefixtures("_aws")
def test_the_command_line_shows_jobs_and_says_how_a_list_goes_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    keep_partial_batch()
    manifest = a_manifest(2)
    request = import_request(manifest, DATASTORE, BUCKET, SETTINGS)
    for number in range(3):
        job = new_job(manifest, EXECUTION, request, f"j{number}", NOW + timedelta(hours=number))
        wiring.stores().jobs.create(job)
        wiring.stores().studies.link_job("1.2", list_key(job))
    assert command(capsys, "job", "j1")[1]["instanceCount"] == 2
    found: list[str] = []
    asked = ["jobs", "--status", "SUBMITTED", "--study", "1.2", "--limit", "2"]
    _, page, said = command(capsys, *asked)
    found += [each["jobId"] for each in page["jobs"]]
    assert f"run the same command with --cursor {page['nextCursor']}" in said
    _, page, said = command(capsys, *asked, "--cursor", page["nextCursor"])
    found += [each["jobId"] for each in page["jobs"]]
    assert (found, said) == (["j2", "j1", "j0"], "")
    late = ("--since", "2026-11-23T10:00:00Z", "--until", "2026-11-23T11:00:00Z")
    (only,) = command(capsys, "jobs", *late)[1]["jobs"]
    assert only["jobId"] == "j1"
    _, page, said = command(capsys, "job", "j1", "--instances", "--limit", "1")
    assert ([each["state"] for each in page["instances"]], page["nextCursor"]) == (
        ["IMPORTED"],
        "1",
    )
    assert "--cursor 1" in said
    assert command(capsys, "job", "none")[0] == 1


@pytest.mark.usefixtures("_aws")
def test_lists_of_batches_and_of_an_instances_rows_go_on_at_their_cursor(
    capsys: pytest.CaptureFixture[str],
) -> None:
    keep_partial_batch()
    command(capsys, "release", "1.2.3.2", "--reason", WHY)
    _, first, said = command(capsys, "batches", "--limit", "1")
    assert "There is more" in said
    _, second, said = command(capsys, "batches", "--limit", "1", "--cursor", first["nextCursor"])
    ids = [page["batches"][0]["batchId"] for page in (first, second)]
    assert (ids[1], said) == (BATCH, "")
    row = the_row(wiring.stores(), "1.2.3.1")
    overwrite(wiring.stores().instances, [replace(row, study_instance_uid="1.9")])
    _, first, said = command(capsys, "instance", "1.2.3.1", "--limit", "1")
    assert "--cursor 1" in said
    _, second, _ = command(capsys, "instance", "1.2.3.1", "--limit", "1", "--cursor", "1")
    studies = {page["instances"][0]["studyInstanceUID"] for page in (first, second)}
    assert studies == {"1.2", "1.9"}


@pytest.mark.usefixtures("_aws")
def test_a_list_of_what_was_put_aside_says_when_it_is_cut_and_what_cannot_be_read(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [f"quarantine/not-part10/{letter}" for letter in "abcde"]
    for key in keys:
        aws.s3().put_object(Bucket=BUCKET, Key=key, Body=b"x", Metadata={"reason": "why"})
    faults = {keys[1]: ObjectDenied("HeadObject: 403"), keys[2]: ObjectMissing("gone")}
    real = S3Files.head

    def head(files: S3Files, key: str) -> StoredObject:
        if key in faults:
            raise faults[key]
        return real(files, key)

    monkeypatch.setattr(S3Files, "head", head)
    code, page, said = command(capsys, "quarantine", "--limit", "3")
    assert (code, page["truncated"]) == (0, True)
    assert [each.get("reason") or each["unread"] for each in page["objects"]] == [
        "why",
        "HeadObject: 403",
        "gone",
    ]
    assert f"--cursor {page['nextCursor']}" in said
    _, page, said = command(capsys, "quarantine", "--limit", "2", "--cursor", page["nextCursor"])
    assert ([each["key"] for each in page["objects"]], said) == (keys[3:], "")
    assert "truncated" not in page


@pytest.mark.usefixtures("_aws")
def test_a_list_of_odd_keys_goes_on_at_a_cursor_that_a_shell_takes_as_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    keys = sorted(
        f"quarantine/not-part10/{odd}" for odd in ("a b;rm -rf 'x'\"$(y)", "\u00e9" * 100)
    )
    for key in keys:
        aws.s3().put_object(Bucket=BUCKET, Key=key, Body=b"x")
    found: list[str] = []
    cursor: list[str] = []
    for _ in keys:
        _, page, said = command(capsys, "quarantine", "--limit", "1", *cursor)
        found += [each["key"] for each in page["objects"]]
        cursor = shlex.split(said)[-2:]
        assert keys[0] not in said
    assert (found, cursor) == (keys, [])
    for wrong in ("", keys[0], "/w=="):
        code, _, said = command(capsys, "quarantine", "--cursor", wrong)
        assert (code, said) == (1, "cursor: not a nextCursor of this list\n")


@pytest.mark.usefixtures("_aws")
def test_what_an_operator_said_of_a_release_stays_though_it_fails_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    keep_partial_batch()
    _, asked, _ = command(capsys, "release", "1.2.3.2", "--reason", WHY)
    stores, new_id = wiring.stores(), asked["batchId"]
    request = {"kind": "release", "reason": WHY, "requestedAt": asked["requestedAt"]}
    assert command(capsys, "batch", new_id)[1]["request"] == request
    batch = stores.batches.get(new_id)
    assert batch is not None
    assert stores.batches.move(batch, BatchEvent.ADMITTED)
    failed = replace(batch, message="1 of 1 instances were not imported")
    assert stores.batches.move(failed, BatchEvent.FAILED)
    view = call("GET", f"/batches/{new_id}")[1]
    assert (view["message"], view["request"]) == (failed.message, request)
    rows = call("GET", "/instances/1.2.3.2")[1]["instances"]
    assert {each["batchId"]: each.get("request") for each in rows} == {
        new_id: request,
        BATCH: None,
    }
    old = call("GET", f"/batches/{BATCH}")[1]
    assert not {"request", "retriedAs", "retryReason"} & old.keys()
    (other,) = call("GET", "/instances/1.2.3.1")[1]["instances"]
    assert "request" not in other


@pytest.mark.usefixtures("_aws")
def test_the_command_line_retries_all_batches_in_a_state(
    capsys: pytest.CaptureFixture[str],
) -> None:
    keep_partial_batch()
    asked = ["retry", "--state", "PARTIAL", "--calling-ae-title", "CT1", "--reason", WHY]
    code, summary, said = command(capsys, *asked)
    (done,) = summary["done"]
    assert (code, summary["doneCount"], done["batchId"]) == (0, 1, BATCH)
    assert f"1 {BATCH} done: {done['newBatchId']}" in said
    code, again, _ = command(capsys, *asked)
    assert (code, again["doneCount"], again["doneBefore"]) == (0, 0, [done])
    keep_objects()
    end_batch_of_nothing()
    code, summary, said = command(capsys, "retry", "--state", "FAILED", "--reason", WHY)
    assert (code, summary["refusedCount"]) == (1, 1)
    assert "refused: " in said


def end_batch_of_nothing() -> None:
    """A batch that failed and has no manifest."""
    batch = a_batch(batch_id=BATCH.replace("0930", "0931"))
    for event in (BatchEvent.CLOSED, BatchEvent.ADMITTED, BatchEvent.FAILED):
        assert wiring.stores().batches.move(batch, event)


@pytest.mark.usefixtures("_aws")
@pytest.mark.parametrize(
    "asked",
    [
        ("retry", "--reason", WHY),
        ("retry", BATCH, "--state", "FAILED", "--reason", WHY),
        ("retry", BATCH, "--limit", "2", "--reason", WHY),
        ("retry", "--state", "IMPORTED", "--reason", WHY),
        ("retry", "--state", "FAILED", "--limit", "0", "--reason", WHY),
        ("discard", "--reason", WHY),
        ("discard", "id", "--junk", "--reason", WHY),
        ("discard", "--junk", "--force", "--reason", WHY),
        ("redrive", "id", "--limit", "1"),
        ("study", "\udcff"),
        ("discard", "id"),
    ],
)
def test_what_does_not_go_together_is_refused_with_the_usage(
    asked: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run(asked)
    assert "usage: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("jobs", "--since", "yesterday"), "argument --since: must be a time in ISO 8601"),
        (("jobs", "--until", "0001-01-01T00:00+01:00"), "argument --until: must be a time"),
        (("retry", "--state", "FAILED", "--since", "x", "--reason", WHY), "argument --since: must"),
        (("dead-letters", "--limit", "0"), "--limit: must be a whole number, at least 1"),
        (("quarantine", "--limit", "1_0"), "--limit: must be a whole number, at least 1"),
        (("batches", "--limit", "0"), "--limit: must be a whole number, from 1 to 100"),
        (("batches", "--limit", "101"), "--limit: must be a whole number, from 1 to 100"),
        (("jobs", "--limit", "9" * 5000), "--limit: must be a whole number, from 1 to 100"),
        (("batches", "--calling-ae-title", "x" * 17), "--calling-ae-title: an AE title has 1 to"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_its_options_name(
    asked: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run(asked)
    assert said in capsys.readouterr().err


@pytest.mark.usefixtures("_aws")
def test_an_error_that_nobody_foresaw_is_a_line_without_its_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise KeyError("DOE^JOHN")

    monkeypatch.setattr(setup, "journal", fails)
    code, answer, said = command(capsys, "batch", BATCH)
    assert (code, answer) == (1, None)
    assert said.startswith("this is a fault of the program or of its settings: KeyError at ")
    assert "DOE" not in said


def test_an_answer_that_nobody_reads_to_its_end_is_no_traceback() -> None:
    """As ``| head`` leaves it: the other end of the pipe is closed."""
    reader, writer = os.pipe()
    os.close(reader)
    script = (
        "from chalicelib.operations import command_line as line;"
        "raise SystemExit(line._show(line.Answer({'a': 1}, ('advice',))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        stdout=writer, stderr=subprocess.PIPE, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "advice\n")


@pytest.mark.usefixtures("_aws")
def test_a_retry_of_all_that_is_interrupted_gives_one_advice(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_partial_batch()
    asked = ["retry", "--state", "PARTIAL", "--reason", WHY]

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("chalicelib.operations.bulk_retry.retry_batch", interrupted)
        code, summary, said = command(capsys, *asked)
    assert (code, summary["stopped"], said) == (1, "interrupted", "Run the same command again.\n")
    assert command(capsys, *asked)[1]["doneCount"] == 1


@pytest.mark.usefixtures("_aws")
def test_a_refusal_of_aws_is_a_line_that_names_the_call(capsys: pytest.CaptureFixture[str]) -> None:
    code, answer, said = command(capsys, "dead-letters")
    assert (code, answer) == (1, None)
    assert said.startswith("AWS refuses GetQueueUrl: ")


def denied_drop() -> None:
    """S3 denies to read an archived object; beside it is one that is no DICOM."""
    aws.s3().put_object(
        Bucket=BUCKET, Key="dropbox/DOE^JANE.dcm", Body=b"x" * 200, StorageClass="GLACIER"
    )
    aws.s3().put_object(Bucket=BUCKET, Key="dropbox/z.txt", Body=b"no DICOM")
    with Client(app.app) as client:
        client.lambda_.invoke("collect_dropbox", SCHEDULED)


@pytest.mark.usefixtures("_aws")
def test_what_is_blocked_is_told_by_digest_and_by_key_in_the_operators_terminal_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    denied_drop()
    assert "DOE" not in capsys.readouterr().out
    status, body = call("GET", "/blocked?work=dropbox")
    assert status == 200
    (record,) = body["blocked"]
    assert (record["work"], record["reason"], record["why"]) == (
        "dropbox", "ObjectDenied", "GetObject: InvalidObjectState",
    )  # fmt: skip
    assert "DOE" not in json.dumps(record)
    assert run(["blocked", "--work", "dropbox"]) == 0
    (shown,) = json.loads(capsys.readouterr().out)["blocked"]
    assert shown == record | {"key": "dropbox/DOE^JANE.dcm"}


@pytest.mark.usefixtures("_aws")
def test_what_is_unblocked_is_tried_by_the_next_invocation(
    capsys: pytest.CaptureFixture[str],
) -> None:
    denied_drop()
    aws.s3().put_object(Bucket=BUCKET, Key="dropbox/DOE^JANE.dcm", Body=b"x" * 200)
    denied_again = [each["Key"] for each in aws.s3().list_objects_v2(
        Bucket=BUCKET, Prefix="dropbox/")["Contents"]]  # fmt: skip
    assert denied_again == ["dropbox/DOE^JANE.dcm"]
    capsys.readouterr()
    assert run(["unblock", "--work", "dropbox"]) == 0
    assert json.loads(capsys.readouterr().out) == {"unblocked": 1}
    with Client(app.app) as client:
        client.lambda_.invoke("collect_dropbox", SCHEDULED)
    assert run(["unblock", "--work", "dropbox"]) == 1
    assert "Contents" not in aws.s3().list_objects_v2(Bucket=BUCKET, Prefix="dropbox/")


@pytest.mark.usefixtures("_aws")
def test_a_batch_shows_what_of_it_is_blocked() -> None:
    keep_partial_batch()
    error = ObjectDenied("GetObject: AccessDenied")
    block(Work.EXPIRY, BATCH, error, wiring.stores().blocked, wiring.outbox(), NOW)
    assert call("GET", "/blocked?work=nothing")[0] == 400
    body = call("GET", f"/batches/{BATCH}")[1]
    assert [each["work"] for each in body["blocked"]] == ["expiry"]
