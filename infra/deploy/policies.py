"""A Lambda's policy, from one that fits any account to one that fits a single deployment.

chalice_app/.chalice/policy-*.json name what the code calls things (``DicomBatchRecordTable``,
``dicom-import``) in any account. Here each such resource becomes the ARN that a stack's output
gives. One that nobody knows is an error: no wildcard for an account, a bucket or a table gets
through.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from infra.deploy.errors import DeployError

Json = dict[str, Any]
# https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsx-ray.html
_WITHOUT_RESOURCE = {"xray:PutTraceSegments", "xray:PutTelemetryRecords"}
_TABLES = {
    "DicomImportJobTable": "JobTableArn",
    "DicomBatchRecordTable": "BatchTableArn",
    "DicomInstanceRecordTable": "InstanceTableArn",
    "DicomStudyTable": "StudyTableArn",
}
# Where a key's first part, or HealthImaging's name for a job's folder, is found.
_RESULTS = ("*-DicomImport-*", "reports/")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a deployment is, and what its stacks' outputs say."""

    partition: str
    region: str
    account: str
    outputs: Mapping[str, str] = field(default_factory=dict)

    def arn(self, service: str, rest: str) -> str:
        """The ARN of a resource with an account and a Region."""
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{rest}"


def narrowed(policy: Json, function_name: str, place: Place) -> Json:
    """``policy`` for the function of this name and nothing but this deployment."""
    statements = [_statement(each, function_name, place) for each in policy["Statement"]]
    return {**policy, "Statement": statements}


def _statement(statement: Json, function_name: str, place: Place) -> Json:
    actions = _listed(statement["Action"])
    if set(actions) <= _WITHOUT_RESOURCE:
        return statement
    resources = [
        arn
        for resource in _listed(statement["Resource"])
        for arn in _resource(resource, function_name, place)
    ]
    return {**statement, "Action": actions, "Resource": resources}


def _resource(resource: str, function_name: str, place: Place) -> Iterator[str]:
    _, _, service, _, _, rest = resource.split(":", 5)
    try:
        yield from _SERVICES[service](rest, function_name, place)
    except KeyError as missing:
        raise DeployError(
            f"A policy names {resource!r}; nothing tells what {missing} is here."
        ) from None


def _log_group(_: str, function_name: str, place: Place) -> Iterator[str]:
    group = place.arn("logs", f"log-group:/aws/lambda/{function_name}")
    yield group
    yield f"{group}:*"


def _table(rest: str, _: str, place: Place) -> Iterator[str]:
    table, _, index = rest.removeprefix("table/").partition("/")
    yield place.outputs[_TABLES[table]] + (f"/{index}" if index else "")


def _object(rest: str, _: str, place: Place) -> Iterator[str]:
    _, _, key = rest.partition("/")
    if not key:  # the buckets themselves
        yield place.outputs["DicomBucketArn"]
        yield place.outputs["ResultsBucketArn"]
        return
    bucket = "ResultsBucketArn" if key.startswith(_RESULTS) else "DicomBucketArn"
    yield f"{place.outputs[bucket]}/{key}"


def _datastores(rest: str, _: str, place: Place) -> Iterator[str]:
    of_image_sets = "/imageset/*" if rest.endswith("/imageset/*") else ""
    for arn in place.outputs["DatastoreArns"].split(","):
        yield arn + of_image_sets


def _output(name: str) -> Callable[[str, str, Place], Iterator[str]]:
    def one(_: str, __: str, place: Place) -> Iterator[str]:
        yield place.outputs[name]

    return one


_SERVICES: Mapping[str, Callable[[str, str, Place], Iterator[str]]] = {
    "dynamodb": _table,
    "events": _output("EventBusArn"),
    "iam": _output("DataAccessRoleArn"),
    "logs": _log_group,
    "medical-imaging": _datastores,
    "s3": _object,
    "sqs": _output("ImportQueueArn"),
    "states": _output("StateMachineArn"),
}


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
