"""The environment, read into values: one small model for each thing that is configured.

A model is read by the first handler that needs it, so that a variable is missed only where it is
used, and all of a model's errors are told together. An empty variable counts as unset.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from chalicelib.errors import SettingsError

_Name = Annotated[str, Field(min_length=1)]

# A poll is 9 of the 25,000 events an execution's history may hold; retries need some of the rest.
# https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
_MAX_POLLS = 2_000
METRIC_NAMESPACE = "DicomStoreScp"


class _Environment(BaseModel):
    """Fields are filled from the variables of the same name in upper case."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="ignore")

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Raises SettingsError, naming every variable that does not fit, its value and the rule."""
        given = {name: environ.get(name.upper(), "").strip() for name in cls.model_fields}
        try:
            return cls.model_validate({name: value for name, value in given.items() if value})
        except ValidationError as error:
            raise SettingsError(_explain(error, given)) from None


class TableSettings(_Environment):
    """The DynamoDB tables' names."""

    job_table: _Name = "DicomImportJobTable"
    batch_table: _Name = "DicomBatchRecordTable"
    instance_table: _Name = "DicomInstanceRecordTable"
    study_table: _Name = "DicomStudyTable"


class RecordSettings(_Environment):
    """For how many days operators' requests, and events that were sent, are kept; 0: for good."""

    journal_retention_days: int = Field(default=400, ge=0, le=36_500)
    event_retention_days: int = Field(default=30, ge=0, le=36_500)


class LogSettings(_Environment):
    """How much is logged, and in which form."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    log_format: Literal["json", "console"] = "json"


class IntakeSettings(_Environment):
    """What ``trigger_import`` needs beside AdmissionSettings."""

    dicom_bucket: _Name
    import_queue_name: _Name = "dicom-import"


class AdmissionSettings(_Environment):
    """How fast imports start, over all Lambdas of the account; ``start_rate`` is in jobs a second.

    StartDICOMImportJob takes one call a second, and two at once. With a burst of one here, the
    second is in reserve for the moments by which Lambdas differ, and no start is throttled.
    https://docs.aws.amazon.com/healthimaging/latest/devguide/throttling-limits.html
    Older accounts have a rate of 0.25; ap-southeast-2 runs 20 jobs at once and not 100.
    """

    dicom_bucket: _Name
    state_machine_arn: _Name
    datastore_id: _Name
    max_concurrent_jobs: int = Field(default=100, ge=1, le=10_000)
    start_rate: float = Field(default=1.0, ge=0.01, le=1_000)
    start_burst: int = Field(default=1, ge=1, le=1_000)
    # One invocation a minute keeps up the pace: 55 s of work, and the schedule's own variance.
    dispatch_seconds: int = Field(default=55, ge=1, le=840)
    metric_namespace: _Name = METRIC_NAMESPACE


class RecoverySettings(_Environment):
    """When an open batch is closed for its owner: so long after its lease ran out.

    Longer than a PUT that the owner has sent can take until S3 drops it, and than a recovery.
    """

    dicom_bucket: _Name
    datastore_id: _Name
    recovery_grace_seconds: int = Field(default=120, ge=0, le=3_600)


class ImportSettings(_Environment):
    """What the state machine's functions need. Times are in seconds.

    With 100 jobs at once, a data store's quota, polls every 5 s make 20 calls a second, below the
    25 that GetDICOMImportJob allows; the interval then grows with the job's age. A job older than
    ``import_max_age_seconds`` is overdue: it is waited for all the same, and told of.
    """

    datastore_id: _Name
    data_access_role_arn: _Name
    results_bucket: _Name
    # Whether an instance that another batch imports, with the same bytes, is left out.
    skip_duplicates: bool = True
    poll_min_seconds: int = Field(default=15, ge=1, le=3_600)
    poll_max_seconds: int = Field(default=60, ge=1, le=3_600)
    import_max_age_seconds: int = Field(default=86_400, ge=60)
    metric_namespace: _Name = METRIC_NAMESPACE

    @model_validator(mode="after")
    def _fits_the_execution_history(self) -> Self:
        if self.poll_min_seconds > self.poll_max_seconds:
            raise ValueError("POLL_MIN_SECONDS must not exceed POLL_MAX_SECONDS")
        if self.import_max_age_seconds > _MAX_POLLS * self.poll_max_seconds:
            raise ValueError(
                f"IMPORT_MAX_AGE_SECONDS must be at most {_MAX_POLLS} times POLL_MAX_SECONDS"
            )
        return self


class ApiSettings(_Environment):
    """What the REST API needs beside the tables."""

    dicom_bucket: _Name


class ReconcileSettings(_Environment):
    """What ``reconcile`` needs.

    An object is looked at when it is older than RECONCILE_AFTER_HOURS, longer than an import may
    take. One invocation walks for RECONCILE_SECONDS: Lambda ends it at 900.
    """

    dicom_bucket: _Name
    results_bucket: _Name
    datastore_id: _Name
    reconcile_after_hours: int = Field(default=24, ge=1, le=8_760)
    reconcile_seconds: int = Field(default=600, ge=1, le=800)
    metric_namespace: _Name = METRIC_NAMESPACE


class EventSettings(_Environment):
    """Where events go, by name or ARN, and how long nothing happens to a study that is quiet.

    Longer than two batches of one study are apart, and than an import takes.
    """

    dicom_bucket: _Name
    event_bus: _Name = "default"
    study_quiet_minutes: float = Field(default=15, gt=0, le=10_080)
    metric_namespace: _Name = METRIC_NAMESPACE


class RetentionSettings(_Environment):
    """How long the objects of imported instances are kept; 0 is for ever.

    Shorter than the bucket's lifecycle keeps manifests, which say what to delete.
    """

    dicom_bucket: _Name
    retention_days: int = Field(default=30, ge=0, le=365)


class DeadLetterSettings(_Environment):
    """The queue, and where its messages go that failed too often."""

    import_queue_name: _Name = "dicom-import"
    dead_letter_queue_name: _Name = "dicom-import-dead-letter"


def _explain(error: ValidationError, given: Mapping[str, str]) -> str:
    lines = []
    for each in error.errors():
        name = str(each["loc"][0]) if each["loc"] else ""
        said = f"{name.upper()}={given[name]!r}: " if given.get(name) else ""
        missing = each["type"] == "missing"
        lines.append(f"{name.upper()} is not set" if missing else f"{said}{each['msg']}")
    return "; ".join(lines)
