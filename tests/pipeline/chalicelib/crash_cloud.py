"""A small AWS on moto whose calls are counted, and in which a handler can be made to die at one."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from decimal import Decimal
from typing import Any

import pytest
from chalicelib import aws
from chalicelib.events.event import SOURCE
from chalicelib.stores.dynamo_instances import DynamoInstances
from chalicelib.stores.dynamodb import DynamoBatches, DynamoJobs
from chalicelib.stores.schema import table_definitions
from chalicelib.stores.table import deserialize
from moto.s3 import models
from moto.s3.models import FakeKey, s3_backends

from local.healthimaging import install
from local.healthimaging.models import MedicalImagingBackend, medicalimaging_backends
from tests.pipeline import aws_mock
from tests.pipeline.aws_mock import ACCOUNT, REGION
from tests.pipeline.chalicelib.crash_snapshot import Json, described
from tests.pipeline.chalicelib.crash_world import (
    BUCKET,
    CT,
    MACHINE,
    RESULTS,
    SCHEDULED,
    A,
    B,
    World,
    set_environment,
    take_time_from,
    upload_key,
)

__all__ = ["BUCKET", "CT", "SCHEDULED", "A", "B", "Cloud", "NewCloud", "hooks", "new_cloud"]
NewCloud = Callable[[], AbstractContextManager["Cloud"]]
_AMAZON = "x-amz-meta-"


class Cloud(World):
    """The world on moto."""

    def __init__(self) -> None:
        super().__init__(install())
        self.s3, self.dynamodb = aws.s3(), aws.dynamodb()
        self.states, self.imaging = aws.stepfunctions(), aws.healthimaging()
        self.batches = DynamoBatches(self.dynamodb, "DicomBatchRecordTable")
        self.instances = DynamoInstances(self.dynamodb, "DicomInstanceRecordTable")
        self.jobs = DynamoJobs(self.dynamodb, "DicomImportJobTable")
        aws_mock.create(BUCKET, RESULTS)
        aws.sqs().create_queue(QueueName="dicom-import")
        self._events_url = aws.sqs().create_queue(QueueName="events")["QueueUrl"]
        bus: Any = aws.events()
        bus.put_rule(Name="all", EventPattern=json.dumps({"source": [SOURCE]}))
        arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:events"
        bus.put_targets(Rule="all", Targets=[{"Id": "queue", "Arn": arn}])
        self._machine = self.states.create_state_machine(
            name=MACHINE,
            definition=json.dumps({"StartAt": "End", "States": {"End": {"Type": "Succeed"}}}),
            roleArn=f"arn:aws:iam::{ACCOUNT}:role/states",
        )["stateMachineArn"]
        created = self.imaging.create_datastore(datastoreName="d", clientToken="t")
        self.datastore_id = created["datastoreId"]

    def remove_results(self) -> None:
        for each in _objects(RESULTS):
            self.s3.delete_object(Bucket=RESULTS, Key=each.name)

    @property
    def healthimaging(self) -> MedicalImagingBackend:
        backend: MedicalImagingBackend = medicalimaging_backends[ACCOUNT][REGION]
        return backend

    def put(self, key: str, body: bytes, metadata: Mapping[str, str] | None = None) -> None:
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=body, Metadata=metadata or {})

    def remove(self, key: str) -> None:
        self.s3.delete_object(Bucket=BUCKET, Key=key)

    def forget_job(self, job_id: str) -> None:
        key: Any = {"jobId": {"S": job_id}}
        self.dynamodb.delete_item(TableName="DicomImportJobTable", Key=key)

    def begin_upload(self, batch_id: str) -> None:
        self.s3.create_multipart_upload(Bucket=BUCKET, Key=upload_key(batch_id))

    def read_events(self) -> Sequence[Mapping[str, Any]]:
        sqs, url = aws.sqs(), self._events_url
        read: list[Mapping[str, Any]] = []
        while True:
            answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)
            messages = answer.get("Messages", [])
            if not messages:
                return read
            for each in messages:
                sqs.delete_message(QueueUrl=url, ReceiptHandle=each["ReceiptHandle"])
                read.append(json.loads(each["Body"]))

    def state(self) -> Json:
        uploads = self.s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
        executions = self.states.list_executions(stateMachineArn=self._machine)["executions"]
        jobs = self.imaging.list_dicom_import_jobs(datastoreId=self.datastore_id)
        return {
            "tables": {
                each["TableName"]: self._items(each["TableName"]) for each in table_definitions()
            },
            "objects": {
                f"{bucket}/{each.name}": _described(each)
                for bucket in (BUCKET, RESULTS)
                for each in _objects(bucket)
            },
            "uploads": [each["Key"] for each in uploads],
            "executions": sorted(each["name"] for each in executions),
            "jobs": sorted([each["jobName"], each["jobStatus"]] for each in jobs["jobSummaries"]),
        }

    def _items(self, table: str) -> list[Json]:
        found = self.dynamodb.scan(TableName=table)["Items"]
        rows = [{name: _plain(value) for name, value in deserialize(row).items()} for row in found]
        return sorted(rows, key=lambda row: json.dumps(row, sort_keys=True))


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value)
    return sorted(value) if isinstance(value, set) else value


def _objects(bucket: str) -> list[FakeKey]:
    """Without a call for each of them."""
    backend = s3_backends[ACCOUNT]["aws"]
    keys, *_ = backend.list_objects(backend.get_bucket(bucket), "", None, None, None)
    return list(keys)


def _described(key: FakeKey) -> Json:
    metadata = {
        name.removeprefix(_AMAZON): value
        for name, value in key.metadata.items()
        if name.startswith(_AMAZON)
    }
    return described(key.name, key.value, metadata)


@pytest.fixture(scope="module")
def hooks() -> Iterator[None]:
    """One moto for all clouds of a module."""
    with aws_mock.running():
        yield


@pytest.fixture
def new_cloud(hooks: None) -> NewCloud:
    """Each cloud begins with services that hold nothing."""
    return a_cloud


@contextmanager
def a_cloud() -> Iterator[Cloud]:
    aws_mock.reset()
    with pytest.MonkeyPatch.context() as patch:
        cloud = Cloud()
        set_environment(cloud, patch)
        take_time_from(cloud, patch)
        patch.setattr(models, "utcnow", lambda: cloud.now.replace(tzinfo=None))
        try:
            with aws_mock.listening(cloud.calls.asked, cloud.calls.answered):
                yield cloud
        finally:
            install().shutdown()
            aws_mock.reset()
