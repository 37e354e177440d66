"""The data an execution of the state machine carries from state to state (at most 256 KiB).

::

    {"batchId", "bucket", "manifestKey",                 from trigger_import
     "executionArn",                                     from TriggerImport
     "job": {"jobId", "datastoreId", "status",           from StartImportJob and CheckStatus
             "waitSeconds", "message"?},
     "error": {"Error", "Cause"}}                        from a Catch
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from contract.errors import ProductError
from contract.keys import manifest_key
from contract.records import JobStatus

MAX_REASON = 500
_UNKNOWN = "the import failed for an unknown reason"


@dataclass(frozen=True, slots=True)
class Execution:
    """Which batch an execution imports."""

    batch_id: str
    bucket: str
    manifest_key: str
    arn: str | None = None

    @classmethod
    def parse(cls, event: Mapping[str, Any]) -> Self:
        """From a state's input; a KeyError means the definition and this module disagree.

        The manifest's key follows from the batch's id, whatever the input of an execution that
        somebody has started by hand says.
        """
        return cls(
            batch_id=event["batchId"],
            bucket=event["bucket"],
            manifest_key=manifest_key(event["batchId"]),
            arn=event.get("executionArn"),
        )

    @classmethod
    def of(cls, batch_id: str, bucket: str) -> Self:
        """A batch's."""
        return cls(batch_id, bucket, manifest_key(batch_id))

    def to_input(self) -> str:
        """The input of StartExecution: the same text for the same batch, every time."""
        return json.dumps(
            {"batchId": self.batch_id, "bucket": self.bucket, "manifestKey": self.manifest_key}
        )


@dataclass(frozen=True, slots=True)
class Patience:
    """Bounds of the time between two looks at a job, and its age when it is overdue; seconds."""

    shortest: int
    longest: int
    max_age: int


def wait_seconds(age: float, patience: Patience) -> int:
    """How long to wait before the next look at a job, from its age in seconds.

    A quarter of its age: the end is noticed at most a quarter late, and a day takes 1,440 looks. An
    overdue job is looked at in steps of a 24th of its age: 90 days, after which HealthImaging
    forgets a job, take 110 more.
    """
    wait = min(max(age / 4, patience.shortest), patience.longest)
    return int(max(wait, age / 24) if age > patience.max_age else wait)


def job_state(
    job_id: str,
    datastore_id: str,
    wait: int,
    status: JobStatus = JobStatus.SUBMITTED,
    message: str | None = None,
) -> dict[str, Any]:
    """The ``job`` member. ``wait`` is in seconds."""
    state: dict[str, Any] = {
        "jobId": job_id,
        "datastoreId": datastore_id,
        "status": str(status),
        "waitSeconds": wait,
    }
    return state | ({"message": bounded(message)} if message else {})


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an execution failed: the error's name and one sentence."""

    error: str
    reason: str


def job_failure(message: str | None) -> Failure:
    """HealthImaging has said that the job failed; ``message`` is CheckStatus's."""
    return Failure("HealthImagingJobFailed", bounded(message or _UNKNOWN))


def failure(event: Mapping[str, Any]) -> Failure:
    """Read RecordFailure's input, whatever led there.

    The message of an error that is not the product's own may hold anything: only its name is kept.
    """
    error = event.get("error")
    if not isinstance(error, Mapping):
        return job_failure(event.get("job", {}).get("message"))
    name = bounded(str(error.get("Error") or "Unknown"))
    return Failure(name, _reason(name, error.get("Cause")))


def bounded(text: str) -> str:
    """At most MAX_REASON printable characters of ``text``."""
    return "".join(each if each.isprintable() else " " for each in text[:MAX_REASON])


def _reason(name: str, cause: object) -> str:
    if name not in _product_errors(ProductError):
        return f"{name} in the import workflow; the execution's history has the details"
    try:
        message = json.loads(str(cause))["errorMessage"]
    except (ValueError, TypeError, KeyError, RecursionError):
        message = _UNKNOWN
    return f"{name}: {bounded(str(message))}"


def _product_errors(root: type[ProductError]) -> set[str]:
    """The names of ``root`` and everything below it."""
    return {root.__name__}.union(*(_product_errors(each) for each in root.__subclasses__()))
