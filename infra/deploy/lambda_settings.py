"""The Lambdas' own settings: which the file may set, and which the stacks' outputs give."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from chalicelib import settings
from chalicelib.errors import SettingsError

from infra.deploy import chalice_stage
from infra.deploy.invocations import QUEUE, QUEUE_CONCURRENCY, TASKS
from infra.deploy.sections import FunctionSettings

# The variables that name what the stacks made, and the output each has its value from.
FROM_OUTPUTS = {
    "DICOM_BUCKET": "DicomBucketName",
    "RESULTS_BUCKET": "ResultsBucketName",
    "IMPORT_QUEUE_NAME": "ImportQueueName",
    "JOB_TABLE": "JobTableName",
    "BATCH_TABLE": "BatchTableName",
    "INSTANCE_TABLE": "InstanceTableName",
    "STUDY_TABLE": "StudyTableName",
    "STATE_MACHINE_ARN": "StateMachineArn",
    "DATASTORE_ID": "DatastoreId",
    "DATA_ACCESS_ROLE_ARN": "DataAccessRoleArn",
    "METRIC_NAMESPACE": "MetricNamespace",
    "RETENTION_DAYS": "RetentionDays",
}
_MODELS = (
    settings.AdmissionSettings,
    settings.EventSettings,
    settings.ImportSettings,
    settings.IntakeSettings,
    settings.LogSettings,
    settings.ReconcileSettings,
    settings.RecordSettings,
    settings.RecoverySettings,
    settings.RetentionSettings,
)
# The state machine waits for a task no longer; see TimeoutSeconds in definition.asl.json.
_MAX_TASK_SECONDS = 300
# Its queue shows a message again after 720 s, six times this, as AWS asks for (storage.yaml); and
# each of its parts ends by what is left (chalicelib.deadline), so that more helps nobody.
_MAX_QUEUE_SECONDS = 120
# What each of these begins must fit: the largest round of the dropbox, or a batch's recovery.
LEAST_SECONDS = {
    "announce_events": 90,
    "collect_dropbox": 90,
    "dispatch_imports": 30,
    "expire_objects": 120,
    "reconcile": 180,
    "recover_batches": 180,
    "trigger_import": 90,
}


def broken(
    environment: Mapping[str, Any], functions: Mapping[str, FunctionSettings]
) -> Iterator[str]:
    """What is wrong with the sections ``environment`` and ``functions``."""
    allowed = {name.upper() for model in _MODELS for name in model.model_fields}
    allowed -= FROM_OUTPUTS.keys()
    for name in sorted(environment.keys() - allowed):
        yield _unknown("environment", name, allowed, "no Lambda reads this, or an output gives it")
    given = {name: str(value) for name, value in environment.items() if name in allowed}
    for message in dict.fromkeys(_messages(given)):
        yield f"environment.{message}"
    known = chalice_stage.functions()
    for name in sorted(functions.keys() - known):
        yield _unknown("functions", name, known, "there is no such function")
    for name, size in functions.items():
        if size.timeout is not None:
            yield from _broken_timeout(name, size.timeout)
        reserved = size.reserved_concurrency
        if name == QUEUE and reserved is not None and reserved < QUEUE_CONCURRENCY:
            # https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html
            yield (
                f"functions.{name}.reserved_concurrency = {reserved}: at least "
                f"{QUEUE_CONCURRENCY}, as many as the queue invokes at once; what is throttled "
                "five times becomes a dead letter"
            )


def _broken_timeout(name: str, timeout: int) -> Iterator[str]:
    given = f"functions.{name}.timeout = {timeout}"
    if name in TASKS and timeout > _MAX_TASK_SECONDS:
        yield f"{given}: the state machine waits for {_MAX_TASK_SECONDS} s only"
    if name == QUEUE and timeout > _MAX_QUEUE_SECONDS:
        yield f"{given}: at most {_MAX_QUEUE_SECONDS}, a sixth of the queue's visibility"
    if timeout < LEAST_SECONDS.get(name, 0):
        yield f"{given}: at least {LEAST_SECONDS[name]}, for what it begins to end"


def _messages(environment: Mapping[str, str]) -> Iterator[str]:
    names = dict.fromkeys(FROM_OUTPUTS, "1")  # fits each; what it will be, only AWS can tell
    for model in _MODELS:
        try:
            model.from_env({**environment, **names})
        except SettingsError as error:
            yield from str(error).split("; ")


def _unknown(section: str, name: str, known: Any, why: str) -> str:
    similar = difflib.get_close_matches(name, sorted(known), 1)
    return f"{section}.{name}: {why}" + (f"; did you mean {similar[0]}?" if similar else "")
