"""Creates in the local cloud what CloudFormation creates on AWS."""

import json
import re
from typing import TYPE_CHECKING

import boto3
from chalicelib.stores.schema import table_definitions

from contract.keys import MANIFEST_SUFFIX, MANIFESTS_PREFIX
from local import names

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

# AWS asks for six times the function's timeout; here a failed message should come back soon.
_VISIBILITY_SECONDS = 10
_MAX_RECEIVES = 5


def create_all() -> str:
    """Create buckets, queues, tables, data store and state machine; returns the queue's URL."""
    s3, sqs = boto3.client("s3"), boto3.client("sqs")
    s3.create_bucket(Bucket=names.DICOM_BUCKET)
    s3.create_bucket(Bucket=names.RESULTS_BUCKET)
    queue_url = _create_queues(sqs)
    _notify_queue(s3)
    _create_tables()
    _create_state_machine()
    return queue_url


def create_datastore() -> str:
    """Create the HealthImaging data store; returns its id."""
    client = boto3.client("medical-imaging")
    return client.create_datastore(datastoreName=names.DATASTORE, clientToken="local")[
        "datastoreId"
    ]


def stop_executions() -> None:
    """Stop what still runs: moto's threads would outlive the cloud that they work for."""
    client = boto3.client("stepfunctions")
    pages = client.get_paginator("list_executions").paginate(
        stateMachineArn=names.STATE_MACHINE_ARN, statusFilter="RUNNING"
    )
    for each in [execution for page in pages for execution in page["executions"]]:
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


def _notify_queue(s3: "S3Client") -> None:
    """A manifest's PUT is the one event that starts an import."""
    s3.put_bucket_notification_configuration(
        Bucket=names.DICOM_BUCKET,
        NotificationConfiguration={
            "QueueConfigurations": [
                {
                    "QueueArn": names.QUEUE_ARN,
                    "Events": ["s3:ObjectCreated:*"],
                    "Filter": {
                        "Key": {
                            # moto knows the filter rules' names in lower case only.
                            "FilterRules": [
                                {"Name": "prefix", "Value": MANIFESTS_PREFIX},
                                {"Name": "suffix", "Value": MANIFEST_SUFFIX},
                            ]
                        }
                    },
                }
            ]
        },
    )


def _create_tables() -> None:
    dynamodb = boto3.client("dynamodb")
    for definition in table_definitions():
        dynamodb.create_table(**definition)


def _create_state_machine() -> None:
    functions = {
        "StartImportJobFunctionArn": names.lambda_arn("start_import_job"),
        "CheckStatusFunctionArn": names.lambda_arn("check_status"),
        "RecordFailureFunctionArn": names.lambda_arn("record_failure"),
    }
    # moto's CloudFormation would create a state machine that never executes: the API does.
    boto3.client("stepfunctions").create_state_machine(
        name=names.STATE_MACHINE,
        # What CloudFormation's DefinitionSubstitutions does; an unknown name is a KeyError.
        definition=re.sub(
            r"\$\{(\w+)\}", lambda name: functions[name[1]], names.DEFINITION.read_text()
        ),
        roleArn=names.STATE_MACHINE_ROLE_ARN,
    )
