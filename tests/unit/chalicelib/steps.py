"""The steps of one import, called as the state machine does, for two instances."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from chalicelib.errors import ServiceUnavailable
from chalicelib.imports.failure import record_failure
from chalicelib.imports.healthimaging import ImportRequest, ImportView
from chalicelib.imports.start import start_import
from chalicelib.imports.status import check_status
from chalicelib.stores import Stores

from contract.errors import ProductError
from contract.records import InstanceState, JobStatus
from tests.unit.chalicelib.builders import (
    BATCH,
    DATASTORE,
    EVENT,
    EXECUTION,
    NOW,
    RESULTS,
    FakeHealthImaging,
    a_context,
    a_manifest,
    failed,
    keep_results,
    lines,
    success,
    summary,
)

LATER = NOW + timedelta(hours=1)
FOLDER = f"s3://{RESULTS}/{BATCH}/{DATASTORE}-DicomImport-job1/"


def start(stores: Stores, service: FakeHealthImaging) -> dict[str, Any]:
    return start_import(EXECUTION, a_context(stores, service))


def check(stores: Stores, service: FakeHealthImaging, seconds: float = 0) -> dict[str, Any]:
    now = NOW + timedelta(seconds=seconds)
    return check_status(EXECUTION, "job1", a_context(stores, service, now))


def fail(stores: Stores, message: str = "it broke", **more: Any) -> dict[str, Any]:
    """RecordFailure, of a job that HealthImaging calls FAILED."""
    event = EVENT | {"job": {"jobId": "job1", "status": "FAILED"}} | more
    view = ImportView(JobStatus.FAILED, FOLDER, message)
    return record_failure(event, a_context(stores, FakeHealthImaging(view=view)))


def states(stores: Stores) -> list[InstanceState]:
    return [row.state for row in stores.instances.by_study("1.2")]


class Crash(Exception):
    """The Lambda dies."""


def unsettled(told: Sequence[Mapping[str, Any]]) -> list[str]:
    """Why the alarm's metric was told."""
    return [each["why"] for each in told if each.get("UnsettledImports") == 1]


def completed(
    stores: Stores, service: FakeHealthImaging, output: str = f"s3://{RESULTS}/{BATCH}/"
) -> None:
    start(stores, service)
    one, two = (each.key for each in a_manifest(2).instances)
    service.view = ImportView(JobStatus.COMPLETED, output)
    keep_results(
        stores, summary=summary(1, 1), success=lines(success(one)), failure=lines(failed(two))
    )


class Forgetful(FakeHealthImaging):
    """It starts a job for each request: the clientToken is forgotten. The first has no answer."""

    lost: ProductError | None = ServiceUnavailable("AWS could not be reached: ReadTimeoutError")

    def start(self, request: ImportRequest) -> str:
        """See ImportService."""
        self.started.append(request)
        if self.lost is not None:
            raise self.lost
        return f"job{len(self.started)}"
