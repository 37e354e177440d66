"""A small AWS on moto whose calls are counted, and in which a handler can be made to die at one."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import app
import boto3
import pytest
from chalicelib import aws, wiring
from chalicelib.events.event import SOURCE
from chalicelib.intake.adapters import SystemClock
from chalicelib.operations import setup
from chalicelib.stores.dynamodb import DynamoBatches, DynamoInstances
from chalicelib.stores.schema import table_definitions
from moto import mock_aws
from pydicom.data import get_testdata_file

from contract.batch_states import BatchEvent
from contract.checksums import Checksum
from contract.keys import InstanceKey, batch_prefix, manifest_key
from contract.manifest import CloseReason, Manifest, ManifestInstance, Source
from contract.metadata import Sender, Target, to_metadata
from contract.records import BatchRecord, BatchState, Counts
from local.healthimaging import EmulatorOptions, ManualScheduler, QuotaProfile, install
from local.lambdas import event_bridge_event

A, B, EMPTY = (f"20261123T09300{digit}Z-0001020304050607" for digit in range(3))
OLDER = "20261123T092000Z-0001020304050607"
BUCKET, RESULTS, MACHINE = "dicom", "results", "dicom-import"
NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
CT = Path(str(get_testdata_file("CT_small.dcm", download=False))).read_bytes()
# Not the same in two runs that end alike: times, the gate's traces of a dispatcher that died.
VOLATILE = {"updatedAt", "admittedAt", "endedAt", "submittedAt", "closedAt"}
VOLATILE |= {"dueAt", "eventId", "quietSince", "heldUntil", "holder", "changes"}
NewCloud = Callable[[], AbstractContextManager["Cloud"]]
SCHEDULED = event_bridge_event("aws.events", "Scheduled Event", {})


class Crash(BaseException):
    """The Lambda's process dies: nothing in it catches this."""


@dataclass
class Calls:
    """The AWS calls of the handler under test, and the one that it dies at."""

    watched: bool = False
    names: list[str] = field(default_factory=list)
    dies_at: int | None = None

    def answered(self, model: Any, **_: object) -> None:
        if self.watched:
            self.names.append(f"{model.service_model.service_name}:{model.name}")
            if len(self.names) - 1 == self.dies_at:
                raise Crash


@dataclass
class Cloud:
    """Everything a handler works with, on moto, at a time that the test says."""

    calls: Calls
    scheduler: ManualScheduler
    now: datetime = NOW
    datastore_id: str = ""
    events_url: str = ""
    event_ids: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.s3, self.dynamodb = aws.s3(), aws.dynamodb()
        self.states, self.imaging = aws.stepfunctions(), aws.healthimaging()
        self.batches = DynamoBatches(self.dynamodb, "DicomBatchTable")
        self.instances = DynamoInstances(self.dynamodb, "DicomInstanceTable")

    def create(self) -> None:
        for definition in table_definitions():
            self.dynamodb.create_table(**definition)
        for bucket in (BUCKET, RESULTS):
            self.s3.create_bucket(Bucket=bucket)
        aws.sqs().create_queue(QueueName="dicom-import")
        queue = aws.sqs().create_queue(QueueName="events")
        self.events_url = queue["QueueUrl"]
        bus: Any = aws.events()
        bus.put_rule(Name="all", EventPattern=json.dumps({"source": [SOURCE]}))
        arn = "arn:aws:sqs:us-east-1:123456789012:events"
        bus.put_targets(Rule="all", Targets=[{"Id": "queue", "Arn": arn}])
        self.states.create_state_machine(
            name=MACHINE,
            definition=json.dumps({"StartAt": "End", "States": {"End": {"Type": "Succeed"}}}),
            roleArn="arn:aws:iam::123456789012:role/states",
        )
        created = self.imaging.create_datastore(datastoreName="d", clientToken="t")
        self.datastore_id = created["datastoreId"]

    def put_instance(self, batch_id: str, sop: str, body: bytes = CT) -> ManifestInstance:
        key = InstanceKey(batch_id, "1.2", "1.2.3", sop)
        sender = Sender("CT1", "STORESCP", "10.0.0.1", "a1")
        metadata = to_metadata(
            key, "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1", None,
            Checksum.of(body), sender, Target("study"),
        )  # fmt: skip
        self.s3.put_object(Bucket=BUCKET, Key=str(key), Body=body, Metadata=metadata)
        return ManifestInstance(
            str(key), len(body), Checksum.of(body), "1.2.840.10008.5.1.4.1.1.2",
            sop, "1.2.3", "1.2", None, "1.2.840.10008.1.2.1",
        )  # fmt: skip

    def begin_upload(self, batch_id: str) -> None:
        """As a receiver that never learns the upload's id, or dies, leaves it."""
        key = f"{batch_prefix(batch_id)}1.2/1.2.3/1.2.3.8.dcm"
        self.s3.create_multipart_upload(Bucket=BUCKET, Key=key)

    def close(self, batch_id: str, instances: Sequence[ManifestInstance]) -> None:
        """Write the manifest, as the receiver does at last."""
        source = Source("CT1", "STORESCP", ("10.0.0.1",), ("a1",))
        manifest = Manifest(batch_id, NOW, CloseReason.QUIET, source, None, tuple(instances))
        self.s3.put_object(Bucket=BUCKET, Key=manifest_key(batch_id), Body=manifest.to_json())

    def keep(self, batch_id: str, *events: BatchEvent) -> None:
        batch = BatchRecord(
            batch_id, BatchState.OPEN, "CT1", NOW, Counts(2), owner="task", lease_expires_at=NOW
        )
        for event in events:
            if event is not BatchEvent.OPENED:
                key = manifest_key(batch_id)
                batch = replace(batch, owner=None, lease_expires_at=None, manifest_key=key)
            assert self.batches.move(batch, event)

    def invoke(self, function: str, event: Any) -> Any:
        self.calls.watched = True
        try:
            return getattr(app, function)(event, None)
        finally:
            self.calls.watched = False

    def invoke_twice_if_it_dies(self, function: str, event: Any) -> None:
        try:
            self.invoke(function, event)
        except Crash:
            self.calls.dies_at = None
            self.now += timedelta(minutes=6)
            self.invoke(function, event)

    def settle(self) -> None:
        """What runs each minute anyway, once: it closes and starts what a crash kept from it."""
        self.now += timedelta(minutes=6)
        app.recover_batches(SCHEDULED, None)
        app.dispatch_imports(SCHEDULED, None)
        app.announce_events(SCHEDULED, None)
        self.now += timedelta(minutes=20)  # studies are quiet by then
        app.announce_events(SCHEDULED, None)

    def events(self) -> list[str]:
        """All that were sent and not read yet, without the times of this run."""
        sqs, told = aws.sqs(), []
        while messages := sqs.receive_message(QueueUrl=self.events_url, MaxNumberOfMessages=10).get(
            "Messages"
        ):
            for each in messages:
                sqs.delete_message(QueueUrl=self.events_url, ReceiptHandle=each["ReceiptHandle"])
                event = json.loads(each["Body"])
                self.event_ids.add(event["detail"]["eventId"])
                detail = {k: v for k, v in event["detail"].items() if k not in VOLATILE}
                told.append(json.dumps([event["detail-type"], detail], sort_keys=True))
        return sorted(told)

    def contents(self) -> dict[str, Any]:
        """All that is kept, without what differs between two runs that end alike."""
        tables = {
            definition["TableName"]: self._items(definition["TableName"])
            for definition in table_definitions()
        }
        objects = {
            f"{bucket}/{each['Key']}": self._object(bucket, each["Key"])
            for bucket in (BUCKET, RESULTS)
            for each in self.s3.list_objects_v2(Bucket=bucket).get("Contents", [])
        }
        uploads = self.s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
        arn = self.states.list_state_machines()["stateMachines"][0]["stateMachineArn"]
        executions = self.states.list_executions(stateMachineArn=arn)["executions"]
        jobs = self.imaging.list_dicom_import_jobs(datastoreId=self.datastore_id)
        found = {
            "tables": tables,
            "objects": objects,
            "uploads": [each["Key"] for each in uploads],
            "events": self.events(),
            "executions": sorted(each["name"] for each in executions),
            "jobs": sorted(each["jobName"] for each in jobs["jobSummaries"]),
        }
        # HealthImaging's own ids.
        text = re.sub(r"\b[0-9a-f]{32}\b", "<id>", json.dumps(found, sort_keys=True))
        return dict(json.loads(text))

    def _items(self, table: str) -> list[dict[str, Any]]:
        rows = self.dynamodb.scan(TableName=table)["Items"]
        kept = [
            {name: _in_order(value) for name, value in row.items() if name not in VOLATILE}
            for row in rows
            if row.get("batchId") != {"S": "admission"}
        ]
        return sorted(kept, key=lambda row: json.dumps(row, sort_keys=True))

    def _object(self, bucket: str, key: str) -> str:
        answer = self.s3.get_object(Bucket=bucket, Key=key)
        body = answer["Body"].read()
        if not key.endswith(".json") or bucket != BUCKET:
            return Checksum.of(body).base64 if bucket == BUCKET else ""
        members = json.loads(body)
        return json.dumps({name: members[name] for name in members if name not in VOLATILE})


def _in_order(value: Any) -> Any:
    """A set of DynamoDB's has no order."""
    return {"SS": sorted(value["SS"])} if "SS" in value else value


@pytest.fixture(scope="module")
def hooks() -> Iterator[list[Calls]]:
    """One session and its clients for all clouds of this module: making them takes the time.

    The list's last element is told of every call.
    """
    hooked = [Calls()]
    with pytest.MonkeyPatch.context() as environment:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            environment.setenv(name, "made-up")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        boto3.setup_default_session()
        wiring.forget()
        assert boto3.DEFAULT_SESSION is not None
        events = boto3.DEFAULT_SESSION.events

        def answered(**call: Any) -> None:
            hooked[-1].answered(**call)  # whichever that is by then

        events.register("after-call", answered)
        # Made now, and kept: moto hides the session from whatever is made later.
        for client in (
            aws.s3, aws.sqs, aws.dynamodb, aws.stepfunctions, aws.healthimaging, aws.events,
        ):  # fmt: skip
            client()
        yield hooked
        boto3.DEFAULT_SESSION = None
    wiring.forget()


@pytest.fixture
def new_cloud(hooks: list[Calls], monkeypatch: pytest.MonkeyPatch) -> NewCloud:
    return lambda: a_cloud(hooks, monkeypatch)


@contextmanager
def a_cloud(hooks: list[Calls], monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    with ExitStack() as stack:
        emulator = install()
        scheduler = ManualScheduler()
        emulator.use_scheduler(scheduler)
        stack.callback(emulator.shutdown)
        emulator.configure(EmulatorOptions(quota_profile=QuotaProfile.NONE))
        stack.enter_context(mock_aws())
        wiring.settings.cache_clear()
        wiring.stores.cache_clear()
        hooks[-1] = Calls()
        cloud = Cloud(hooks[-1], scheduler)
        cloud.create()
        set_environment(cloud, monkeypatch)
        yield cloud


def set_environment(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    arn = f"arn:aws:states:us-east-1:123456789012:stateMachine:{MACHINE}"
    for name, value in {
        "DICOM_BUCKET": BUCKET,
        "RESULTS_BUCKET": RESULTS,
        "STATE_MACHINE_ARN": arn,
        "DATASTORE_ID": cloud.datastore_id,
        "DATA_ACCESS_ROLE_ARN": "arn:aws:iam::123456789012:role/import",
    }.items():
        monkeypatch.setenv(name, value)

    def sleep(_: object, seconds: float) -> None:
        cloud.now += timedelta(seconds=seconds)

    for module in (wiring, setup):
        monkeypatch.setattr(module, "_now", lambda: cloud.now)
    monkeypatch.setattr(SystemClock, "now", lambda _: cloud.now)
    monkeypatch.setattr(SystemClock, "sleep", sleep)
