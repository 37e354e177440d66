"""Gathers what a run left in S3, DynamoDB and HealthImaging, past all faults."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from typing import TYPE_CHECKING, Any, TypeVar

import boto3
from boto3.dynamodb.types import TypeDeserializer
from botocore.config import Config
from chalicelib import wiring
from chalicelib.events.event import EventType
from chalicelib.intake.drops import digest
from chalicelib.settings import TableSettings
from chalicelib.stores import items
from chalicelib.stores.blocked import Work, listed
from chalicelib.stores.outbox import Due
from chalicelib.stores.s3_files import S3Files

from contract.batch_states import ENDED
from contract.checksums import Checksum
from contract.errors import InvalidKey
from contract.keys import (
    DROPBOX_PREFIX,
    DUPLICATES_PREFIX,
    INSTANCES_PREFIX,
    MANIFESTS_PREFIX,
    QUARANTINE_PREFIX,
    InstanceKey,
    parse_manifest_key,
)
from contract.manifest import Manifest
from contract.records import BatchState
from contract.times import from_iso
from local import names
from tests.chaos.facts import Evidence, StoredObject, Told
from tests.chaos.holdings import copies, object_digest, service_jobs, unfinished
from tests.chaos.ledger import Ledger
from tests.chaos.outages import Outage

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_stepfunctions import SFNClient

T = TypeVar("T")
# What is read once need not be deleted.
_NOT_AGAIN_SECONDS = 3_600
_ENDS = (EventType.BATCH_IMPORTED, EventType.IMPORT_FAILED)
_deserialize = TypeDeserializer().deserialize


@dataclass(frozen=True, slots=True)
class Witness:
    """Looks at the local cloud through clients of its own.

    ``told`` is what it has heard so far, and ``digests`` are those of what it has seen.
    """

    s3: "S3Client"
    dynamodb: "DynamoDBClient"
    sqs: "SQSClient"
    states: "SFNClient"
    told: set[Told] = field(default_factory=set)
    digests: dict[str, Checksum] = field(default_factory=dict)

    @classmethod
    def of(cls, aws_url: str) -> "Witness":
        """Clients for moto's own server, before which there is no weather."""
        config = Config(retries={"total_max_attempts": 3})
        return cls(
            boto3.client("s3", endpoint_url=aws_url, config=config),
            boto3.client("dynamodb", endpoint_url=aws_url, config=config),
            boto3.client("sqs", endpoint_url=aws_url, config=config),
            boto3.client("stepfunctions", endpoint_url=aws_url, config=config),
        )

    def unfinished(self) -> dict[str, int]:
        """How much is still on its way, by what it is."""
        table = TableSettings().batch_table
        batches = self._table(table, items.batch_from_item)
        states = Counter(str(batch.state) for batch in batches if batch.state not in ENDED)
        pages = self.states.get_paginator("list_executions").paginate(
            stateMachineArn=names.STATE_MACHINE_ARN, statusFilter="RUNNING"
        )
        counts = {
            **states,
            "announcements": sum(row.get("due") == Due.ANNOUNCE for row in self._rows(table)),
            "executions": sum(len(page["executions"]) for page in pages),
            "messages": self._messages(names.QUEUE),
            "dead letters": self._messages(names.DEAD_LETTER_QUEUE),
            "in the dropbox": self._left_in_dropbox(),
            **unfinished(),
        }
        return {what: count for what, count in counts.items() if count}

    def _left_in_dropbox(self) -> int:
        """What is neither archived nor a folder: the archived ones wait for somebody."""
        found = self.s3.get_paginator("list_objects_v2").paginate(
            Bucket=names.DICOM_BUCKET, Prefix=DROPBOX_PREFIX
        )
        objects = [each for page in found for each in page.get("Contents", ())]
        return sum(
            each["StorageClass"] == "STANDARD" and (each["Size"] > 0 or each["Key"][-1] != "/")
            for each in objects
        )

    def evidence(
        self,
        ledger: Ledger,
        reported: frozenset[str],
        outages: Sequence[Outage],
        tasks_died: int,
    ) -> Evidence:
        """Everything, once nothing moves any more."""
        tables = TableSettings()
        instances = self._table(tables.instance_table, items.instance_from_item)
        batches = self._table(tables.batch_table, items.batch_from_item)
        jobs = self._table(tables.job_table, items.job_from_item)
        objects = list(self._objects(names.DICOM_BUCKET))
        self.told.update(self._heard())
        for each in objects:
            if (first := _first_key(each.key)) is not None:
                self.digests[first] = object_digest(each.key)
        return Evidence(
            sent=ledger.sent(),
            copies=list(copies()),
            service_jobs=list(service_jobs()),
            imported_keys=list(self._imported()),
            instances={row.row_key: row for row in instances},
            batches={batch.batch_id: batch for batch in batches},
            jobs={job.job_id: job for job in jobs},
            manifests={
                parse_manifest_key(each.key): Manifest.from_json(
                    self._read(names.DICOM_BUCKET, each.key)
                )
                for each in objects
                if each.key.startswith(MANIFESTS_PREFIX)
            },
            objects=objects,
            digests=dict(self.digests),
            uploads=self._uploads(),
            told=frozenset(self.told),
            reported=reported,
            outages=outages,
            dropped=dict(self._dropped()),
            blocked=frozenset(record.subject for record in listed(wiring.stores().blocked, Work)),
            tasks_died=tasks_died,
        )

    def _table(self, name: str, read: Callable[[Mapping[str, Any]], T]) -> list[T]:
        """The batch table holds locks, studies and journals, too: those have no state."""
        return [read(row) for row in self._rows(name) if row.keys() & {"state", "jobStatus"}]

    def _rows(self, name: str) -> Iterator[Mapping[str, Any]]:
        pages = self.dynamodb.get_paginator("scan").paginate(TableName=name, ConsistentRead=True)
        for page in pages:
            for item in page["Items"]:
                yield {key: _deserialize(value) for key, value in item.items()}

    def _messages(self, queue: str) -> int:
        url = self.sqs.get_queue_url(QueueName=queue)["QueueUrl"]
        counts = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        waiting = counts["ApproximateNumberOfMessages"]
        return int(waiting) + int(counts["ApproximateNumberOfMessagesNotVisible"])

    def _objects(self, bucket: str) -> Iterator[StoredObject]:
        for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for each in page.get("Contents", ()):
                yield StoredObject(each["Key"], each["LastModified"].astimezone(UTC))

    def _dropped(self) -> Iterator[tuple[str, tuple[str, Checksum]]]:
        """Without a console's folders."""
        files = S3Files(self.s3, names.DICOM_BUCKET)
        for each in files.list(DROPBOX_PREFIX):
            if each.size or not each.key.endswith("/"):
                yield each.key, (digest(each), object_digest(each.key))

    def _imported(self) -> Iterator[str]:
        for each in self._objects(names.RESULTS_BUCKET):
            if each.key.endswith("/SUCCESS/success.ndjson"):
                for line in self._read(names.RESULTS_BUCKET, each.key).splitlines():
                    yield json.loads(line)["inputFile"]

    def _uploads(self) -> list[str]:
        pages = self.s3.get_paginator("list_multipart_uploads").paginate(Bucket=names.DICOM_BUCKET)
        return [each["Key"] for page in pages for each in page.get("Uploads", ())]

    def _heard(self) -> Iterator[Told]:
        """The ends of batches that were told on EventBridge since this was asked last."""
        url = self.sqs.get_queue_url(QueueName=names.EVENT_QUEUE)["QueueUrl"]
        while messages := self.sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=_NOT_AGAIN_SECONDS
        ).get("Messages"):
            for message in messages:
                event = json.loads(message["Body"])
                if event["detail-type"] in _ENDS:
                    end = event["detail"]
                    state = BatchState(end["state"])
                    yield Told(end["batchId"], state, from_iso(end["endedAt"]))

    def _read(self, bucket: str, key: str) -> bytes:
        return self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()


def _first_key(key: str) -> str | None:
    """Where an instance's object stood before it was moved; None if it is none."""
    if key.startswith(QUARANTINE_PREFIX):
        _, _, rest = key.removeprefix(QUARANTINE_PREFIX).partition("/")
    else:
        rest = key.removeprefix(DUPLICATES_PREFIX).removeprefix(INSTANCES_PREFIX)
    try:
        return str(InstanceKey.parse(f"{INSTANCES_PREFIX}{rest}"))
    except InvalidKey:
        return None
