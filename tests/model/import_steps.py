"""The product's own steps as the import model runs them, and what follows from how each ends."""

import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from chalicelib.errors import ImportRefused, ObjectDenied, ObjectUnavailable, ResultsNotUnderstood
from chalicelib.imports import deletion, failure, notice, start, status
from chalicelib.intake import recovery
from chalicelib.intake.recovery import Recovery
from chalicelib.operations import retry
from chalicelib.settings import RecoverySettings
from chalicelib.stores.outbox import MemoryOutbox

from contract.errors import InvalidKey, InvalidManifest, ProductError
from contract.records import JobStatus
from tests.model.import_ports import Calls
from tests.model.import_world import Cloud, Stage, execution
from tests.unit.chalicelib.builders import BUCKET, DATASTORE

# After one of these the model gives up a start. (The state machine repeats ObjectDenied for hours.)
_PERMANENT = {
    kind.__name__
    for kind in (ImportRefused, InvalidKey, InvalidManifest, ObjectDenied, ObjectUnavailable)
} | {"ImportUnknown", "ObjectMissing", "ObjectTooLarge", ResultsNotUnderstood.__name__}


class Task(NamedTuple):
    """One invocation: of which step, for which batch, job or image set."""

    kind: str
    subject: str
    stage: Stage = Stage("")

    def __str__(self) -> str:
        return f"{self.kind} {self.subject}"

    @property
    def slot(self) -> tuple[str, str]:
        """An execution has one step at a time; another request is another invocation."""
        return ("execution" if self.stage.name else self.kind, self.subject)


class Ended(NamedTuple):
    """How a step ended: with an answer or a product's error."""

    answer: Any = None
    error: str = ""
    message: str = ""


def execution_task(batch_id: str, stage: Stage) -> Task:
    kinds = {"start": "StartImportJob", "wait": "CheckStatus", "record": "RecordFailure"}
    return Task(kinds[stage.name], batch_id, stage)


def perform(task: Task, calls: Calls) -> Ended:
    """The product's code, up to its end."""
    try:
        answer = _ACTIONS[task.kind](task, calls)
    except ProductError as error:
        return Ended(None, type(error).__name__, str(error))
    return Ended(answer)


def _start(task: Task, calls: Calls) -> Any:
    return start.start_import(execution(task.subject), calls.context())


def _check(task: Task, calls: Calls) -> Any:
    return status.check_status(execution(task.subject), task.stage.job_id, calls.context())


def _record(task: Task, calls: Calls) -> Any:
    run, stage = execution(task.subject), task.stage
    event: dict[str, Any] = {
        "batchId": run.batch_id,
        "bucket": run.bucket,
        "manifestKey": run.manifest_key,
    }
    if stage.job_id:
        event["job"] = {"jobId": stage.job_id, "message": stage.message}
    if stage.error:
        cause = json.dumps({"errorMessage": stage.message})
        event["error"] = {"Error": stage.error, "Cause": cause}
    return failure.record_failure(event, calls.context())


def _job_event(task: Task, calls: Calls) -> None:
    job = calls.cloud.imaging.jobs[task.subject]
    detail = {"jobId": job.job_id, "datastoreId": DATASTORE, "jobName": job.batch_id}
    notice.import_noticed(detail, BUCKET, calls.context())


def _image_set_event(task: Task, calls: Calls) -> None:
    detail = {"datastoreId": DATASTORE, "imagesetId": task.subject}
    deletion.image_set_noticed(detail, calls.context())


def _retry(task: Task, calls: Calls) -> Any:
    return retry.retry_batch(task.subject, "why", calls.operations())


def _retry_forced(task: Task, calls: Calls) -> Any:
    return retry.retry_batch(task.subject, "why", calls.operations(), force=True)


def _recover(task: Task, calls: Calls) -> Any:
    """Long after every lease."""
    context = calls.context()
    settings = RecoverySettings(dicom_bucket=BUCKET, datastore_id=DATASTORE)
    now = context.now + timedelta(hours=1)
    outbox = MemoryOutbox(calls.cloud.batches)
    return recovery.recover_batches(Recovery(context.stores, outbox, context.files, settings, now))


_ACTIONS: Mapping[str, Callable[[Task, Calls], Any]] = {
    "StartImportJob": _start,
    "CheckStatus": _check,
    "RecordFailure": _record,
    "event of": _job_event,
    "event of image set": _image_set_event,
    "retry of": _retry,
    "forced retry of": _retry_forced,
    "recovery of": _recover,
}


def follow(task: Task, ended: Ended, cloud: Cloud) -> None:
    """What the state machine does next."""
    if task.stage.name:
        cloud.executions[task.subject] = _next(task.stage, ended)
    elif task.kind == "event of image set" and not ended.error:
        cloud.imaging.told.add(task.subject)


def _next(stage: Stage, ended: Ended) -> Stage:
    if ended.error:
        if stage.name == "start" and ended.error in _PERMANENT:
            return Stage("record", error=ended.error, message=ended.message)
        return stage._replace(tried=ended.error)
    job_id, said = ended.answer["jobId"], ended.answer["status"]
    if stage.name == "start":
        return Stage("wait", job_id)
    if said == JobStatus.COMPLETED or (said == JobStatus.FAILED and stage.name == "record"):
        return Stage("done", job_id)
    if said == JobStatus.FAILED:
        return Stage("record", job_id, message=ended.answer.get("message", ""))
    return Stage("wait", job_id)
