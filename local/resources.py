"""Creates in the local cloud what CloudFormation creates on AWS."""

import json
import re
from contextlib import suppress
from typing import TYPE_CHECKING

import boto3
from chalicelib.events.event import SOURCE
from chalicelib.settings import RetentionSettings
from chalicelib.stores.schema import table_definitions

from contract.keys import (
    DROPBOX_PREFIX,
    DUPLICATES_PREFIX,
    MANIFEST_SUFFIX,
    MANIFESTS_PREFIX,
    OUTCOMES_PREFIX,
)
from local import names

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import (
        FilterRuleTypeDef,
        LifecycleRuleFilterTypeDef,
        LifecycleRuleTypeDef,
        QueueConfigurationTypeDef,
    )
    from mypy_boto3_sqs import SQSClient

# AWS asks for six times the function's timeout; here a failed message should come back soon.
_VISIBILITY_SECONDS = 10
_MAX_RECEIVES = 5
_MANIFEST_DAYS = 730
_RESULT_DAYS = 90  # as long as HealthImaging lists a job
_LEFTOVER_DAYS = 7


def create_all(look_again_seconds: int | None = None) -> str:
    """Create buckets, queues, tables, data store and state machine; returns the queue's URL.

    ``look_again_seconds`` takes the place of the quarter of an hour after which the state machine
    asks again for what nobody could say.
    """
    s3, sqs = boto3.client("s3"), boto3.client("sqs")
    s3.create_bucket(Bucket=names.DICOM_BUCKET)
    s3.create_bucket(Bucket=names.RESULTS_BUCKET)
    for bucket, rules in lifecycle().items():
        s3.put_bucket_lifecycle_configuration(
            Bucket=bucket, LifecycleConfiguration={"Rules": rules}
        )
    queue_url = _create_queues(sqs)
    _create_event_queue(sqs)
    _notify_queue(s3)
    _create_tables()
    _create_state_machine(look_again_seconds)
    return queue_url


def create_datastore() -> str:
    """Create the HealthImaging data store; returns its id."""
    client = boto3.client("medical-imaging")
    return client.create_datastore(datastoreName=names.DATASTORE, clientToken="local")[
        "datastoreId"
    ]


def lifecycle() -> "dict[str, list[LifecycleRuleTypeDef]]":
    """The rules of each bucket, as docs/operations.md gives their reasons.

    No rule expires instances, quarantine or dropbox.
    """
    retention_days = RetentionSettings.model_fields["retention_days"].default
    return {
        names.DICOM_BUCKET: [
            _expiring("duplicates", DUPLICATES_PREFIX, retention_days),
            _expiring("manifests", MANIFESTS_PREFIX, _MANIFEST_DAYS),
            _expiring("outcomes", OUTCOMES_PREFIX, _MANIFEST_DAYS),
            *_tidying(),
        ],
        names.RESULTS_BUCKET: [_expiring("results", "", _RESULT_DAYS), *_tidying()],
    }


def _expiring(name: str, prefix: str, days: int) -> "LifecycleRuleTypeDef":
    return {
        "ID": name,
        "Status": "Enabled",
        "Filter": {"Prefix": prefix},
        "Expiration": {"Days": days},
    }


def _tidying() -> "list[LifecycleRuleTypeDef]":
    """What is no object any more; versions are there only in a bucket with versioning."""
    everything: LifecycleRuleFilterTypeDef = {"Prefix": ""}
    return [
        {
            "ID": "incomplete-uploads",
            "Status": "Enabled",
            "Filter": everything,
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": _LEFTOVER_DAYS},
        },
        {
            "ID": "old-versions",
            "Status": "Enabled",
            "Filter": everything,
            "NoncurrentVersionExpiration": {"NoncurrentDays": _LEFTOVER_DAYS},
        },
        {
            "ID": "delete-markers",
            "Status": "Enabled",
            "Filter": everything,
            "Expiration": {"ExpiredObjectDeleteMarker": True},
        },
    ]


def stop_executions() -> None:
    """Stop what still runs: moto's threads would outlive the cloud that they work for.

    Nothing runs where somebody has deleted the state machine, or reset the local AWS.
    """
    client = boto3.client("stepfunctions")
    pages = client.get_paginator("list_executions").paginate(
        stateMachineArn=names.STATE_MACHINE_ARN, statusFilter="RUNNING"
    )
    with suppress(client.exceptions.StateMachineDoesNotExist):
        for each in [execution for page in pages for execution in page["executions"]]:
            with suppress(client.exceptions.ExecutionDoesNotExist):
                client.stop_execution(executionArn=each["executionArn"])


def _create_queues(sqs: "SQSClient") -> str:
    dead_letters = sqs.create_queue(QueueName=names.DEAD_LETTER_QUEUE)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dead_letters, AttributeNames=["QueueArn"])
    redrive = {
        "deadLetterTargetArn": arn["Attributes"]["QueueArn"],
        "maxReceiveCount": _MAX_RECEIVES,
    }
    attributes = {
        "VisibilityTimeout": str(_VISIBILITY_SECONDS),
        "RedrivePolicy": json.dumps(redrive),
    }
    return sqs.create_queue(QueueName=names.QUEUE, Attributes=attributes)["QueueUrl"]  # type: ignore[arg-type]


def _create_event_queue(sqs: "SQSClient") -> None:
    """Where the product's events can be seen: as a viewer's rule and queue would be."""
    sqs.create_queue(QueueName=names.EVENT_QUEUE)
    client = boto3.client("events")
    client.put_rule(Name=names.EVENT_QUEUE, EventPattern=json.dumps({"source": [SOURCE]}))
    client.put_targets(
        Rule=names.EVENT_QUEUE, Targets=[{"Id": "queue", "Arn": names.EVENT_QUEUE_ARN}]
    )


def _notify_queue(s3: "S3Client") -> None:
    """The PUT of a manifest, or of anything in the dropbox, is what starts an import."""
    s3.put_bucket_notification_configuration(
        Bucket=names.DICOM_BUCKET,
        NotificationConfiguration={
            "QueueConfigurations": [
                _notification(prefix=MANIFESTS_PREFIX, suffix=MANIFEST_SUFFIX),
                _notification(prefix=DROPBOX_PREFIX),
            ]
        },
    )


def _notification(**filters: str) -> "QueueConfigurationTypeDef":
    # moto knows the filter rules' names in lower case only.
    rules: list[FilterRuleTypeDef] = [
        {"Name": "prefix" if name == "prefix" else "suffix", "Value": value}
        for name, value in filters.items()
    ]
    return {
        "QueueArn": names.QUEUE_ARN,
        "Events": ["s3:ObjectCreated:*"],
        "Filter": {"Key": {"FilterRules": rules}},
    }


def _create_tables() -> None:
    dynamodb = boto3.client("dynamodb")
    for definition in table_definitions():
        dynamodb.create_table(**definition)


def _create_state_machine(look_again_seconds: int | None) -> None:
    functions = {
        "StartImportJobFunctionArn": names.lambda_arn("start_import_job"),
        "CheckStatusFunctionArn": names.lambda_arn("check_status"),
        "RecordFailureFunctionArn": names.lambda_arn("record_failure"),
    }
    # moto's CloudFormation would create a state machine that never executes: the API does.
    boto3.client("stepfunctions").create_state_machine(
        name=names.STATE_MACHINE,
        # What CloudFormation's DefinitionSubstitutions does; an unknown name is a KeyError.
        definition=_waiting(
            re.sub(r"\$\{(\w+)\}", lambda name: functions[name[1]], names.DEFINITION.read_text()),
            look_again_seconds,
        ),
        roleArn=names.STATE_MACHINE_ROLE_ARN,
    )


def _waiting(definition: str, seconds: int | None) -> str:
    """The definition with other fixed waits."""
    if seconds is None:
        return definition
    document = json.loads(definition)
    for state in document["States"].values():
        if "Seconds" in state:
            state["Seconds"] = seconds
    return json.dumps(document)
