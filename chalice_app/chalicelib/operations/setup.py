"""What operations run on: the environment's settings and the cached clients, as in ``wiring``."""

import os
from datetime import UTC, datetime, timedelta

from chalicelib import aws, wiring
from chalicelib.deadline import UNBOUNDED, Deadline
from chalicelib.operations.expire import Expiry
from chalicelib.operations.journal import DynamoJournal
from chalicelib.operations.reconcile import Reconciliation
from chalicelib.operations.repeat import Operations
from chalicelib.settings import (
    ApiSettings,
    ReconcileSettings,
    RecordSettings,
    RetentionSettings,
    TableSettings,
)
from chalicelib.stores.s3_files import S3Files

# A thousand objects that are accounted for one by one, and then the report.
_PAGE_TAKES = timedelta(seconds=100)


def files() -> S3Files:
    """The DICOM bucket."""
    return S3Files(aws.s3(), wiring.settings(ApiSettings).dicom_bucket)


def journal() -> DynamoJournal:
    """What operators asked for."""
    retention = wiring.retained(wiring.settings(RecordSettings).journal_retention_days)
    return DynamoJournal(aws.dynamodb(), wiring.settings(TableSettings).batch_table, retention)


def operations() -> Operations:
    """For retry and release."""
    return Operations(wiring.import_context(), journal())


def reconciliation(until: Deadline = UNBOUNDED) -> Reconciliation:
    """One invocation's walk."""
    settings, now = ReconcileSettings.from_env(os.environ), _now()
    most = timedelta(seconds=settings.reconcile_seconds)
    return Reconciliation(
        stores=wiring.stores(),
        default_datastore=settings.datastore_id,
        files=S3Files(aws.s3(), settings.dicom_bucket),
        results=S3Files(aws.s3(), settings.results_bucket),
        older_than=timedelta(hours=settings.reconcile_after_hours),
        work_for=until.less(_PAGE_TAKES).within(most, now).left(now),
        now=_now,
    )


def expiry(until: Deadline = UNBOUNDED) -> Expiry:
    """One invocation's deletions."""
    settings = RetentionSettings.from_env(os.environ)
    return Expiry(
        stores=wiring.stores(),
        outbox=wiring.outbox(),
        files=S3Files(aws.s3(), settings.dicom_bucket),
        retention=timedelta(days=settings.retention_days),
        now=_now,
        deadline=until,
    )


def metric_namespace() -> str:
    """Where the metrics go."""
    return ReconcileSettings.from_env(os.environ).metric_namespace


def _now() -> datetime:
    return datetime.now(UTC)
