"""The state machine and the queue of trigger_import, on moto's services."""

import json

import pytest
from chalicelib import aws
from chalicelib.imports.execution import Execution
from chalicelib.intake.adapters import SqsQueue, StateMachine

BATCH = "20261123T093000Z-0001020304050607"
pytestmark = pytest.mark.usefixtures("_no_aws")


def test_a_batch_has_one_execution_whoever_asks() -> None:
    client = aws.stepfunctions()
    machine = client.create_state_machine(
        name="dicom-import",
        definition=json.dumps({"StartAt": "End", "States": {"End": {"Type": "Succeed"}}}),
        roleArn="arn:aws:iam::123456789012:role/states",
    )["stateMachineArn"]
    workflow = StateMachine(client, machine)
    assert workflow.start(Execution(BATCH, "dicom", f"batches/{BATCH}.json"))
    assert not workflow.start(Execution(BATCH, "another", f"batches/{BATCH}.json"))
    (execution,) = client.list_executions(stateMachineArn=machine)["executions"]
    assert execution["name"] == BATCH


def test_a_state_machine_that_is_not_there_is_an_error() -> None:
    client = aws.stepfunctions()
    missing = "arn:aws:states:us-east-1:123456789012:stateMachine:missing"
    with pytest.raises(client.exceptions.StateMachineDoesNotExist):
        StateMachine(client, missing).start(Execution(BATCH, "dicom", "x"))


def test_messages_are_deleted_by_their_receipts() -> None:
    client = aws.sqs()
    url = client.create_queue(QueueName="dicom-import")["QueueUrl"]
    for body in ("one", "two", "three"):
        client.send_message(QueueUrl=url, MessageBody=body)
    received = client.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    queue = SqsQueue(client, "dicom-import")
    queue.delete([])
    queue.delete([each["ReceiptHandle"] for each in received[:2]])
    counts = client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert counts["ApproximateNumberOfMessagesNotVisible"] == "1"
