"""An on-call engineer at the local cloud: the runbook's commands, and what goes wrong."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from chalicelib.operations.command_line import run
from moto.s3.models import FakeKey, s3_backends

from contract.keys import INSTANCES_PREFIX, new_batch_id
from local import names
from tests.pipeline.local.support import until

WHY = "the runbook is walked"
REFUSED = 1


@dataclass(frozen=True, slots=True)
class Operator:
    """Runs ``python -m chalicelib.operations``; ``said`` is what stood on standard error last."""

    capsys: pytest.CaptureFixture[str]
    log: Path
    said: list[str] = field(default_factory=list)
    answer: dict[str, Any] = field(default_factory=dict)

    def ops(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """A command's answer; an empty one if it was refused."""
        ended = self.attempt(*arguments)
        assert ended == code, f"{arguments}: {self.said}"
        return dict(self.answer)

    def attempt(self, *arguments: str) -> int:
        """The exit code of a command that may be refused."""
        self.capsys.readouterr()
        ended = run(arguments)
        out, err = self.capsys.readouterr()
        self.said[:] = [err]
        self.answer.clear()
        self.answer.update(json.loads(out) if out else {})
        return ended

    def until_state(self, batch_id: str, *states: str) -> dict[str, Any]:
        """What ``batch`` shows once the batch is in one of these states."""

        def reached() -> dict[str, Any] | None:
            with suppress(AssertionError):  # it has no record yet
                shown = self.ops("batch", batch_id)
                return shown if shown["state"] in states else None
            return None

        return until(reached)

    def lines(self, event: str) -> list[dict[str, Any]]:
        """What ``log FUNCTION EVENT`` shows: here all functions write into one file."""
        found = [json.loads(line) for line in self.log.read_text().splitlines() if event in line]
        return [line for line in found if line.get("event") == event]

    def instance_in(self, uid: str, state: str) -> dict[str, Any] | None:
        """The row that ``instance UID`` shows in that state."""
        with suppress(AssertionError):  # nobody knows it yet
            rows: list[dict[str, Any]] = self.ops("instance", uid)["instances"]
            return next((row for row in rows if row["state"] == state), None)
        return None


def object_in_moto(key: str) -> FakeKey:
    """moto's own object: AWS changes its class or age without a new copy, which S3's API cannot."""
    found = s3_backends[names.ACCOUNT_ID][names.PARTITION].get_object(names.DICOM_BUCKET, key)
    assert found is not None
    return found


def put(key: str, body: bytes, **arguments: Any) -> None:
    boto3.client("s3").put_object(Bucket=names.DICOM_BUCKET, Key=key, Body=body, **arguments)


def copy(source: str, target: str) -> None:
    """``aws s3 cp`` from one key to another."""
    boto3.client("s3").copy_object(
        Bucket=names.DICOM_BUCKET, Key=target, CopySource=f"{names.DICOM_BUCKET}/{source}"
    )


def delete(key: str) -> None:
    boto3.client("s3").delete_object(Bucket=names.DICOM_BUCKET, Key=key)


def keys(prefix: str) -> list[str]:
    listed = boto3.client("s3").list_objects_v2(Bucket=names.DICOM_BUCKET, Prefix=prefix)
    return [each["Key"] for each in listed.get("Contents", [])]


def metadata(key: str) -> Mapping[str, str]:
    return boto3.client("s3").head_object(Bucket=names.DICOM_BUCKET, Key=key)["Metadata"]


def dead_letter(body: str) -> None:
    sqs = boto3.client("sqs")
    url = sqs.get_queue_url(QueueName=names.DEAD_LETTER_QUEUE)["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody=body)


def orphan(body: bytes, uid: str) -> str:
    """An object under ``instances/`` of a batch that nobody knows, two days old."""
    old = datetime.now(UTC) - timedelta(days=2)
    key = f"{INSTANCES_PREFIX}{new_batch_id(old, b'orphaned')}/1.2.3/1.2.3.4/{uid}.dcm"
    put(key, body)
    object_in_moto(key).last_modified = old.replace(tzinfo=None)
    return key


def stop_execution(batch_id: str) -> None:
    """As somebody does by hand."""
    executions = names.STATE_MACHINE_ARN.replace(":stateMachine:", ":execution:")
    boto3.client("stepfunctions").stop_execution(executionArn=f"{executions}:{batch_id}")
