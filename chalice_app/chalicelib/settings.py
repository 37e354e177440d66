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
    batch_table: _Name = "DicomBatchTable"
    instance_table: _Name = "DicomInstanceTable"


class LogSettings(_Environment):
    """How much is logged, and in which form."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    log_format: Literal["json", "console"] = "json"


class IntakeSettings(_Environment):
    """What ``trigger_import`` needs."""

    dicom_bucket: _Name
    state_machine_arn: _Name
    import_queue_name: _Name = "dicom-import"


class ImportSettings(_Environment):
    """What the state machine's functions need. Times are in seconds.

    With 100 jobs at once, a data store's quota, polls every 5 s make 20 calls a second, below the
    25 that GetDICOMImportJob allows; the interval then grows with the job's age.
    """

    datastore_id: _Name
    data_access_role_arn: _Name
    results_bucket: _Name
    poll_min_seconds: int = Field(default=5, ge=1, le=3_600)
    poll_max_seconds: int = Field(default=60, ge=1, le=3_600)
    import_max_age_seconds: int = Field(default=86_400, ge=60)

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


def _explain(error: ValidationError, given: Mapping[str, str]) -> str:
    lines = []
    for each in error.errors():
        name = str(each["loc"][0]) if each["loc"] else ""
        said = f"{name.upper()}={given[name]!r}: " if given.get(name) else ""
        missing = each["type"] == "missing"
        lines.append(f"{name.upper()} is not set" if missing else f"{said}{each['msg']}")
    return "; ".join(lines)
