"""Which adapters the handlers run on: the environment's settings and the cached clients."""

import functools
import os
from typing import TypeVar

from chalicelib import aws, logs
from chalicelib.imports.healthimaging import HealthImaging
from chalicelib.intake.adapters import SqsQueue, StateMachine
from chalicelib.settings import (
    ApiSettings,
    ImportSettings,
    IntakeSettings,
    LogSettings,
    TableSettings,
)
from chalicelib.stores import Stores
from chalicelib.stores.dynamodb import DynamoBatches, DynamoInstances, DynamoJobs
from chalicelib.stores.s3 import S3Objects

Model = TypeVar("Model", ApiSettings, ImportSettings, IntakeSettings, LogSettings, TableSettings)


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
    )


def import_service() -> HealthImaging:
    """AWS HealthImaging."""
    return HealthImaging(aws.healthimaging())


def queue() -> SqsQueue:
    """The queue of manifest events."""
    return SqsQueue(aws.sqs(), settings(IntakeSettings).import_queue_name)


def workflow() -> StateMachine:
    """The import state machine."""
    return StateMachine(aws.stepfunctions(), settings(IntakeSettings).state_machine_arn)


def forget() -> None:
    """Read settings and make clients anew; for a process whose environment was changed."""
    settings.cache_clear()
    stores.cache_clear()
    aws.forget_clients()
