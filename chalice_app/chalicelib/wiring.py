"""Which adapters the handlers run on: the environment's settings and the cached clients."""

import functools
import os
import uuid
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from chalicelib import aws, logs
from chalicelib.deadline import UNBOUNDED, Deadline
from chalicelib.events.announce import Announcer
from chalicelib.events.bus import EventBridge
from chalicelib.imports.context import ImportContext
from chalicelib.imports.execution import Execution
from chalicelib.imports.healthimaging import HealthImaging
from chalicelib.intake.adapters import SqsQueue, StateMachine, SystemClock
from chalicelib.intake.dispatch import Desk, dispatch
from chalicelib.intake.dropbox import Dropbox, collect
from chalicelib.intake.recovery import Recovery
from chalicelib.intake.trigger import Intake
from chalicelib.isolation import block
from chalicelib.settings import (
    AdmissionSettings,
    ApiSettings,
    EventSettings,
    ImportSettings,
    IntakeSettings,
    LogSettings,
    RecordSettings,
    RecoverySettings,
    TableSettings,
)
from chalicelib.stores import Stores
from chalicelib.stores.blocked import DynamoBlocked, Work
from chalicelib.stores.dynamo_instances import DynamoInstances
from chalicelib.stores.dynamodb import DynamoBatches, DynamoJobs
from chalicelib.stores.gate import DynamoGate
from chalicelib.stores.image_sets import DynamoImageSets
from chalicelib.stores.lock import DynamoLock
from chalicelib.stores.outbox import DynamoOutbox
from chalicelib.stores.s3 import S3Objects
from chalicelib.stores.s3_files import S3Files
from chalicelib.stores.studies import DynamoStudies

Model = TypeVar(
    "Model",
    AdmissionSettings,
    ApiSettings,
    EventSettings,
    ImportSettings,
    IntakeSettings,
    LogSettings,
    RecordSettings,
    RecoverySettings,
    TableSettings,
)


@functools.cache
def settings(model: type[Model]) -> Model:
    """One of the settings' models, read from the environment on first use."""
    return model.from_env(os.environ)


@functools.cache
def stores() -> Stores:
    """DynamoDB and S3."""
    logs.configure(settings(LogSettings))
    tables, client = settings(TableSettings), aws.dynamodb()
    return Stores(
        objects=S3Objects(aws.s3()),
        jobs=DynamoJobs(client, tables.job_table),
        batches=DynamoBatches(client, tables.batch_table),
        instances=DynamoInstances(client, tables.instance_table),
        studies=DynamoStudies(client, tables.study_table, outbox()),
        image_sets=DynamoImageSets(client, tables.batch_table),
        blocked=DynamoBlocked(client, tables.batch_table),
    )


def import_context() -> ImportContext:
    """What the state machine's functions work with."""
    service = HealthImaging(aws.healthimaging(), aws.healthimaging_starts())
    imports = settings(ImportSettings)
    files = _files(settings(IntakeSettings).dicom_bucket)
    return ImportContext(stores(), files, _files(imports.results_bucket), service, imports, _now())


def queue() -> SqsQueue:
    """The queue of manifest events."""
    return SqsQueue(aws.sqs(), settings(IntakeSettings).import_queue_name)


def deadline(context: object) -> Deadline:
    """When the invocation with this Lambda context has to be over."""
    return Deadline.of(context, _now())


def desk(until: Deadline = UNBOUNDED) -> Desk:
    """What one invocation dispatches imports with."""
    admission = settings(AdmissionSettings)
    workflow = _workflow()
    gate = DynamoGate(aws.dynamodb(), settings(TableSettings).batch_table)
    clock, holder = SystemClock(), uuid.uuid4().hex
    return Desk(stores().batches, gate, workflow, admission, clock, holder, until)


def intake(until: Deadline = UNBOUNDED) -> Intake:
    """What the queue's messages are worked on with."""
    bucket = settings(IntakeSettings).dicom_bucket
    return Intake(
        bucket,
        stores(),
        settings(AdmissionSettings).datastore_id,
        _now(),
        block=lambda batch_id, error: block(
            Work.INTAKE, batch_id, error, stores().blocked, outbox(), _now()
        ),
        take_drops=lambda: collect(dropbox(until)),
        dispatch=lambda batches: dispatch(desk(until), batches),
        deadline=until,
        clock=_now,
    )


def dropbox(until: Deadline = UNBOUNDED) -> Dropbox:
    """What one invocation collects drops with."""
    bucket = settings(IntakeSettings).dicom_bucket
    lock = DynamoLock(aws.dynamodb(), settings(TableSettings).batch_table, "dropbox")
    holder = uuid.uuid4().hex
    return Dropbox(_files(bucket), stores(), outbox(), lock, _now, holder, until)


def recovery(until: Deadline = UNBOUNDED) -> Recovery:
    """What one invocation recovers batches with."""
    recovery_settings = settings(RecoverySettings)
    files = _files(recovery_settings.dicom_bucket)
    return Recovery(
        stores(), outbox(), files, recovery_settings, _now(), deadline=until, clock=_now
    )


def outbox() -> DynamoOutbox:
    """What is still to be announced or deleted."""
    retention = retained(settings(RecordSettings).event_retention_days)
    return DynamoOutbox(aws.dynamodb(), settings(TableSettings).batch_table, retention)


def announcer(until: Deadline = UNBOUNDED) -> Announcer:
    """What one invocation sends events with."""
    events = settings(EventSettings)
    return Announcer(
        stores=stores(),
        outbox=outbox(),
        files=_files(events.dicom_bucket),
        bus=EventBridge(aws.events(), events.event_bus),
        start=lambda batch_id, attempt: _workflow().start(
            Execution.of(batch_id, events.dicom_bucket), attempt
        ),
        lock=DynamoLock(aws.dynamodb(), settings(TableSettings).batch_table, "announcer"),
        metric_namespace=events.metric_namespace,
        quiet=timedelta(minutes=events.study_quiet_minutes),
        now=_now,
        holder=uuid.uuid4().hex,
        deadline=until,
    )


def _workflow() -> StateMachine:
    return StateMachine(aws.stepfunctions(), settings(AdmissionSettings).state_machine_arn)


def retained(days: int) -> timedelta | None:
    """How long something is kept; 0 days is for good."""
    return timedelta(days=days) if days else None


def _files(bucket: str) -> S3Files:
    return S3Files(aws.s3(), bucket)


def _now() -> datetime:
    return datetime.now(UTC)


def forget() -> None:
    """Read settings and make clients anew; for a process whose environment was changed."""
    settings.cache_clear()
    stores.cache_clear()
    aws.forget_clients()
