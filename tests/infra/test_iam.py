"""Every action that code takes is granted to who takes it, and nothing else is.

The Lambdas' actions are those of their AWS calls, seen on moto in scenarios that reach them all;
what cannot be seen there has its reason below.
"""

import ast
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import app
import pytest
from chalice.test import Client
from chalicelib.events.bus import EventBridge
from chalicelib.operations.quarantine import OperationRefused
from chalicelib.stores.copies import COPIED_FROM
from chalicelib.stores.instances import Change
from store_scp.s3 import requests

from contract.batch_states import BatchEvent
from contract.keys import INSTANCES_PREFIX, MANIFESTS_PREFIX, InstanceKey, manifest_key
from contract.records import JobStatus
from infra.deploy.templates import REPOSITORY
from tests.infra.templates import (
    actions,
    listed,
    resource,
    resources,
    role_statements,
)
from tests.pipeline import aws_mock
from tests.pipeline.chalicelib.crash_cases import (
    CASES,
    a_failed_batch_without_an_answer,
    a_failed_import,
    a_job_whose_record_is_gone,
    a_late_success,
    a_late_success_whose_record_is_gone,
    a_late_success_without_results,
    a_repeated_batch_whose_event_is_lost,
    imported_before,
    old_imports,
    queue_event,
)
from tests.pipeline.chalicelib.crash_cloud import (
    BUCKET,
    CT,
    SCHEDULED,
    A,
    B,
    Cloud,
    NewCloud,
    hooks,
    new_cloud,
)

__all__ = ["hooks", "new_cloud"]  # fixtures
pytestmark = pytest.mark.filterwarnings("ignore:IAMAuthorizer")
CHALICE = Path(app.__file__).parent / ".chalice"
STAGE = json.loads((CHALICE / "config.json").read_text())["stages"]["dev"]["lambda_functions"]
Scenario = Callable[[Cloud], None]

# https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html
ACTIONS = {
    "s3:HeadObject": ["s3:GetObject"],
    "s3:ListObjectsV2": ["s3:ListBucket"],
    "s3:ListMultipartUploads": ["s3:ListBucketMultipartUploads"],
    "s3:CopyObject": ["s3:GetObject", "s3:PutObject"],
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-deletes.html
    "s3:DeleteObject": ["s3:DeleteObject", "s3:GetObject"],
    "sqs:DeleteMessageBatch": ["sqs:DeleteMessage"],
}
# Lambda's own, for any function.
EVERY_FUNCTIONS = {
    "logs:CreateLogGroup",
    "logs:CreateLogStream",
    "logs:PutLogEvents",
    "xray:PutTraceSegments",
    "xray:PutTelemetryRecords",
}
_PART_BY_PART = {"s3:AbortMultipartUpload"}  # when a copy beyond 5 GiB fails in its middle
UNSEEN = {
    # Lambda itself reads the queue, with the function's role.
    "trigger_import": _PART_BY_PART | {"sqs:ReceiveMessage", "sqs:GetQueueAttributes"},
    # Who starts a job hands HealthImaging a role.
    "start_import_job": _PART_BY_PART | {"iam:PassRole"},
    "check_status": _PART_BY_PART,
    "on_import_event": _PART_BY_PART,
    "record_failure": _PART_BY_PART,
    "recover_batches": _PART_BY_PART,
    "collect_dropbox": _PART_BY_PART,
    "api_handler": _PART_BY_PART,
}


def _drop(cloud: Cloud) -> None:
    cloud.s3.put_object(Bucket=BUCKET, Key="dropbox/a.dcm", Body=CT)
    cloud.s3.put_object(Bucket=BUCKET, Key="dropbox/b.dcm", Body=b"no DICOM")


def a_dropped_object_a_bad_manifest_and_a_poison_message(cloud: Cloud) -> None:
    _drop(cloud)
    cloud.s3.put_object(Bucket=BUCKET, Key="batches/bad.json", Body=b"{}")
    event = queue_event("dropbox/a.dcm", "batches/bad.json")
    event["Records"].append({"receiptHandle": "poison", "body": "{"})
    with pytest.raises(Exception, match="message"):
        cloud.invoke("trigger_import", event)


def an_old_import_that_left_one_out(cloud: Cloud) -> None:
    event = old_imports(cloud)
    imported_before(cloud, cloud.put_instance(A, "1.2.3.1"))
    cloud.invoke("expire_objects", event)


def a_repeated_batch_of_other_bytes(cloud: Cloud) -> None:
    event = a_repeated_batch_whose_event_is_lost(cloud)
    rows = list(cloud.instances.by_study("1.2"))
    failed = next(row for row in rows if row.batch_id == A)
    named = replace(failed, beside="SHA256:x")
    assert not cloud.instances.swap_many([Change(failed, None), Change(None, named)])
    cloud.invoke("recover_batches", event)


def an_event_of_a_job_whose_record_is_gone(cloud: Cloud) -> None:
    cloud.invoke("on_import_event", a_late_success_whose_record_is_gone(cloud))


def a_failure_whose_job_record_is_gone(cloud: Cloud) -> None:
    cloud.invoke(
        "record_failure",
        a_job_whose_record_is_gone(cloud) | {"error": {"Error": "x", "Cause": "{}"}},
    )


def dropped_objects(cloud: Cloud) -> None:
    _drop(cloud)
    cloud.invoke("collect_dropbox", SCHEDULED)


def _archived(cloud: Cloud, key: str, body: bytes) -> None:
    """S3 denies to read it until somebody restores it."""
    cloud.s3.put_object(Bucket=BUCKET, Key=key, Body=body, StorageClass="GLACIER")


def _until_it_is_restored(cloud: Cloud, function: str, key: str, body: bytes) -> None:
    """The function is blocked by an object, and no more when its next try is due."""
    _archived(cloud, key, body)
    cloud.invoke(function, SCHEDULED)
    cloud.put(key, body)
    cloud.now += timedelta(minutes=3)
    cloud.invoke(function, SCHEDULED)


def a_blocked_object(cloud: Cloud) -> None:
    _until_it_is_restored(cloud, "collect_dropbox", "dropbox/a.dcm", CT)


def a_blocked_batch(cloud: Cloud) -> None:
    """Its manifest is there, and may not be read."""
    cloud.close(A, [cloud.put_instance(A, "1.2.3.1")])
    cloud.keep(A, BatchEvent.OPENED)
    cloud.now += timedelta(hours=1)
    body = cloud.s3.get_object(Bucket=BUCKET, Key=manifest_key(A))["Body"].read()
    _until_it_is_restored(cloud, "recover_batches", manifest_key(A), body)


def a_blocked_manifest(cloud: Cloud) -> None:
    cloud.close(A, [cloud.put_instance(A, "1.2.3.1")])
    body = cloud.s3.get_object(Bucket=BUCKET, Key=manifest_key(A))["Body"].read()
    _archived(cloud, manifest_key(A), body)
    with pytest.raises(Exception, match="message"):
        cloud.invoke("trigger_import", queue_event(manifest_key(A)))


def a_blocked_drop_of_the_queues(cloud: Cloud) -> None:
    _archived(cloud, "dropbox/a.dcm", CT)
    cloud.invoke("trigger_import", queue_event("dropbox/a.dcm"))
    cloud.put("dropbox/a.dcm", CT)
    cloud.now += timedelta(minutes=2)
    cloud.invoke("trigger_import", queue_event("dropbox/a.dcm"))


def an_object_that_is_not_the_one_that_was_imported(cloud: Cloud) -> None:
    event = old_imports(cloud)
    (key,) = (each["Key"] for each in cloud.s3.list_objects_v2(
        Bucket=BUCKET, Prefix=f"{INSTANCES_PREFIX}{A}/")["Contents"])  # fmt: skip
    cloud.put(key, b"another")
    cloud.invoke("expire_objects", event)
    cloud.remove(key)
    cloud.now += timedelta(days=2)
    cloud.invoke("expire_objects", event)


def an_end_that_cannot_be_announced(cloud: Cloud) -> None:
    event = CASES["announce_events"][1](cloud)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EventBridge, "send", _refused)
        cloud.invoke("announce_events", event)
    cloud.now += timedelta(minutes=2)
    cloud.invoke("announce_events", event)


def an_end_whose_job_has_none(cloud: Cloud) -> None:
    """The execution died between the two records."""
    event = CASES["announce_events"][1](cloud)
    batch = cloud.batches.get(A)
    assert batch is not None
    (job,) = cloud.jobs.get_many([batch.job_id or ""]).values()
    key: Any = {"jobId": {"S": job.job_id}}
    cloud.dynamodb.delete_item(TableName="DicomImportJobTable", Key=key)
    cloud.jobs.create(replace(job, job_status=JobStatus.IN_PROGRESS))
    cloud.invoke("announce_events", event)


def _refused(*_: object) -> None:
    raise KeyError("a bug")


def old_objects(cloud: Cloud) -> None:
    """Of a batch whose event was lost, and of a copy whose batch was never written."""
    cloud.close(B, [cloud.put_instance(B, "1.2.3.1")])
    key, copied = str(InstanceKey(A, "1.2", "1.2.3", "1.2.3.2")), {COPIED_FROM: "elsewhere"}
    cloud.s3.put_object(Bucket=BUCKET, Key=key, Body=b"", Metadata=copied)
    cloud.now = datetime.now(UTC) + timedelta(days=2)  # moto's objects are as old as they are
    cloud.invoke("reconcile", SCHEDULED)


def _another_batch_has_one_of_its_instances(cloud: Cloud) -> None:
    cloud.close(B, [cloud.put_instance(B, "1.2.3.1")])
    app.trigger_import(queue_event(manifest_key(B)), None)


def a_failed_import_of_what_another_has(cloud: Cloud) -> None:
    event = a_failed_import(cloud)
    _another_batch_has_one_of_its_instances(cloud)
    cloud.invoke("record_failure", event)


def _a_running_job_that_left_one_out(cloud: Cloud) -> str:
    duplicate = cloud.put_instance(B, "1.2.3.7")
    cloud.close(B, [duplicate])
    imported_before(cloud, duplicate)
    before = cloud.jobs.get("job0")
    assert before is not None
    running = replace(before, job_id="job9", batch_id=B, job_status=JobStatus.SUBMITTED)
    cloud.jobs.create(running)
    return running.job_id


def every_request(cloud: Cloud) -> None:
    event = a_failed_import(cloud)
    _another_batch_has_one_of_its_instances(cloud)
    app.record_failure(event, None)
    running = _a_running_job_that_left_one_out(cloud)
    cloud.calls.watched = True
    with Client(app.app) as client:
        for path in ("jobs", "jobs?study=1.2", "jobs?status=FAILED", f"jobs/{A}",
                     f"jobs/{A}/instances", f"jobs/{running}/instances", "studies/1.2",
                     "batches", "batches?state=CLOSED", f"batches/{A}", "blocked",
                     "instances/1.2.3.1", "instances/1.2.3.2"):  # fmt: skip
            answer = client.http.get(f"/{path}")
            assert answer.status_code == 200, (path, answer.body)
        body = json.dumps({"reason": "why"}).encode()
        for _ in range(2):
            answer = client.http.post(f"/batches/{A}/retry", body=body)
            assert answer.status_code == 200, answer.body
    cloud.calls.watched = False


def a_retry_that_asks_healthimaging(cloud: Cloud) -> None:
    cloud.invoke("retry", a_late_success(cloud))


def a_retry_that_looks_for_the_instances(cloud: Cloud) -> None:
    cloud.invoke("retry", a_late_success_without_results(cloud))


def a_retry_that_looks_for_the_job(cloud: Cloud) -> None:
    batch_id = a_failed_batch_without_an_answer(cloud)
    with pytest.raises(OperationRefused, match="still runs"):
        cloud.invoke("retry", batch_id)


def _case(case: str) -> Scenario:
    function, arrange = CASES[case]
    return lambda cloud: cloud.invoke(function, arrange(cloud))


SCENARIOS: dict[str, list[Scenario]] = {
    "api_handler": [
        every_request,
        a_retry_that_asks_healthimaging,
        a_retry_that_looks_for_the_job,
        a_retry_that_looks_for_the_instances,
        _case("retry stalled"),
    ],
    "collect_dropbox": [dropped_objects, a_blocked_object],
    "announce_events": [an_end_that_cannot_be_announced, an_end_whose_job_has_none],
    "trigger_import": [a_blocked_manifest, a_blocked_drop_of_the_queues],
    "reconcile": [old_objects],
    "expire_objects": [
        an_old_import_that_left_one_out,
        an_object_that_is_not_the_one_that_was_imported,
    ],
    "recover_batches": [a_repeated_batch_of_other_bytes, a_blocked_batch],
    "record_failure": [a_failed_import_of_what_another_has, a_failure_whose_job_record_is_gone],
    "on_import_event": [an_event_of_a_job_whose_record_is_gone],
}
for case, (function, _) in CASES.items():
    SCENARIOS.setdefault(function, []).append(_case(case))
SCENARIOS["trigger_import"].append(a_dropped_object_a_bad_manifest_and_a_poison_message)


def statements_of(function: str) -> list[Any]:
    policy = json.loads((CHALICE / STAGE[function]["iam_policy_file"]).read_text())
    return list(policy["Statement"])


def on_tables(name: str, parameters: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The actions of a call to DynamoDB, each with the table or index that it is for."""
    service = name.partition(":")[0]
    if service != "dynamodb":
        return
    if "TransactItems" in parameters:
        for each in parameters["TransactItems"]:
            for kind, request in each.items():
                yield f"dynamodb:{kind}Item", request["TableName"]
    elif "RequestItems" in parameters:
        yield from ((name, table) for table in parameters["RequestItems"])
    else:
        index = parameters.get("IndexName")
        yield name, parameters["TableName"] + (f"/index/{index}" if index else "")


def granted_on_tables(function: str) -> set[tuple[str, str]]:
    return {
        (action, resource.partition(":table/")[2])
        for statement in statements_of(function)
        for action in listed(statement["Action"])
        for resource in listed(statement["Resource"])
        if ":table/" in resource
    }


@pytest.mark.parametrize("function", sorted(STAGE))
def test_a_function_may_do_what_it_does_and_nothing_else(
    function: str, new_cloud: NewCloud
) -> None:
    seen: set[str] = set()
    tables: set[tuple[str, str]] = set()
    for scenario in SCENARIOS[function]:
        with new_cloud() as cloud, tables_of(cloud, tables):
            scenario(cloud)
            seen |= {call.replace("stepfunctions:", "states:") for call in cloud.calls.names}
    others = {call for call in seen if not call.startswith("dynamodb:")}
    needed = {action for call in others for action in ACTIONS.get(call, [call])}
    needed |= {action for action, _ in tables}
    if "s3:GetObject" in needed:
        needed.add("s3:ListBucket")  # else S3 says 403 of what is not there, and not 404
    assert granted_on_tables(function) == tables
    unseen = EVERY_FUNCTIONS | UNSEEN.get(function, set())
    assert actions(statements_of(function)) == needed | unseen


@contextmanager
def tables_of(cloud: Cloud, found: set[tuple[str, str]]) -> Iterator[None]:
    """Add what the function under test asks of DynamoDB to what was ``found``."""

    def listen(name: str, parameters: Mapping[str, Any]) -> None:
        if cloud.calls.watched:
            found.update(on_tables(name, parameters))

        if name == "s3:CopyObject" and parameters.get("TaggingDirective") != "REPLACE":
            # It copies tags, which takes s3:GetObjectTagging and s3:PutObjectTagging: no role may.
            raise AssertionError("an object with tags cannot be copied")

    with aws_mock.reading_parameters(listen):
        yield


def _calls(module: str, methods: set[str]) -> set[str]:
    """Which of an AWS client's methods a module calls."""
    tree = ast.parse((REPOSITORY / "scp" / "store_scp" / module).read_text())
    called = {each.func.attr for each in ast.walk(tree) if isinstance(each, ast.Call)
              and isinstance(each.func, ast.Attribute)}  # fmt: skip
    return called & methods


# What the receiver's own S3 client can send, and what S3 asks for it. Parts need no more than that.
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html#mpuAndPermissions
RECEIVERS_REQUESTS = {
    "get_range": "s3:GetObject",
    "put_object": "s3:PutObject",
    "create_multipart_upload": "s3:PutObject",
    "upload_part": "s3:PutObject",
    "complete_multipart_upload": "s3:PutObject",
    "abort_multipart_upload": "s3:AbortMultipartUpload",
}
LEASES = {"put_item": "dynamodb:PutItem", "update_item": "dynamodb:UpdateItem"}
OTHER_METHODS = {"get_item", "delete_item", "query", "scan", "transact_write_items"}


def test_the_receiver_may_do_what_it_does_and_nothing_else() -> None:
    sent = {
        name
        for name, each in vars(requests).items()
        if getattr(each, "__annotations__", {}).get("return") is requests.Request
    }
    assert sent == RECEIVERS_REQUESTS.keys()
    assert _calls("lease_store.py", LEASES.keys() | OTHER_METHODS) == LEASES.keys()
    needed = {*RECEIVERS_REQUESTS.values(), *LEASES.values(), "ecs:UpdateTaskProtection"}
    assert actions(role_statements("TaskRole")) == needed


def test_the_receiver_writes_instances_and_manifests_only() -> None:
    written = {
        text.removeprefix("${Bucket}/")
        for each in role_statements("TaskRole")
        if any(action.startswith("s3:") for action in listed(each["Action"]))
        for text in [each["Resource"]["Fn::Sub"][0]]
    }
    assert written == {f"{INSTANCES_PREFIX}*", f"{MANIFESTS_PREFIX}*"}


def test_healthimaging_may_read_instances_and_write_results_for_the_named_data_stores_only() -> (
    None
):
    """https://docs.aws.amazon.com/healthimaging/latest/devguide/security-iam-deputy.html"""
    found = {tuple(listed(each["Action"])): each for each in role_statements("DataAccessRole")}
    assert set(found) == {("s3:ListBucket",), ("s3:GetObject",), ("s3:PutObject",)}
    assert found[("s3:GetObject",)]["Resource"]["Fn::Sub"][0] == f"${{Bucket}}/{INSTANCES_PREFIX}*"
    (trust,) = resource("DataAccessRole")["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "medical-imaging.amazonaws.com"}
    _, named = trust["Condition"]["ArnEquals"]["aws:SourceArn"]["Fn::Split"]
    arns, parts = named["Fn::Sub"]
    assert arns.endswith(":datastore/${Id}${Others}")
    assert parts["Others"] == {
        "Fn::If": ["OneDatastore", "", {"Fn::Sub": ",${OtherDatastoreARNs}"}]
    }
    assert trust["Condition"]["StringEquals"] == {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}


def test_the_state_machine_may_invoke_its_own_functions_only() -> None:
    substituted = resource("StateMachine")["DefinitionSubstitutions"]
    definition = (REPOSITORY / "stepfunctions" / "definition.asl.json").read_text()
    assert set(re.findall(r"\$\{(\w+)\}", definition)) == set(substituted)
    (invoke,) = [
        each for each in role_statements("StateMachineRole")
        if each["Action"] == "lambda:InvokeFunction"
    ]  # fmt: skip
    assert invoke["Resource"] == list(substituted.values())
    for each in substituted.values():
        name = each["Fn::Sub"].rpartition("dicom-store-scp-${Stage}-")[2]
        assert name in STAGE


# Actions that take no resource: https://docs.aws.amazon.com/service-authorization/latest/reference/
WITHOUT_A_RESOURCE = {
    "ecr:GetAuthorizationToken", "logs:CreateLogDelivery", "logs:DeleteLogDelivery",
    "logs:DescribeLogGroups", "logs:DescribeResourcePolicies", "logs:GetLogDelivery",
    "logs:ListLogDeliveries", "logs:PutResourcePolicy", "logs:UpdateLogDelivery",
    "xray:GetSamplingRules", "xray:GetSamplingTargets", "xray:PutTelemetryRecords",
    "xray:PutTraceSegments",
}  # fmt: skip


def test_no_role_has_a_wildcard_where_aws_takes_a_resource() -> None:
    for name, each in resources("AWS::IAM::Role"):
        assert "ManagedPolicyArns" not in each["Properties"]
        for statement in role_statements(name):
            taken = set(listed(statement["Action"]))
            assert not any("*" in action for action in taken), name
            assert "*" not in listed(statement["Resource"]) or taken <= WITHOUT_A_RESOURCE, name


def test_no_role_is_lent_to_a_service_on_behalf_of_another_account() -> None:
    for name, _ in resources("AWS::IAM::Role"):
        (trust,) = resource(name)["AssumeRolePolicyDocument"]["Statement"]
        assert trust["Condition"]["StringEquals"] == {
            "aws:SourceAccount": {"Ref": "AWS::AccountId"}
        }
        assert {"ArnEquals", "ArnLike"} & trust["Condition"].keys()
