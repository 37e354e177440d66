"""What a test or the local cloud can switch while the emulator runs."""

from dataclasses import dataclass, fields
from enum import StrEnum

from botocore.model import StringShape

from local.healthimaging.quotas import QuotaProfile
from local.healthimaging.validation import service_model, shape_named, violations

_EVERY_ACTION = "*"


class InputFileForm(StrEnum):
    """How the ndjson files name an input file: AWS's examples show its key."""

    KEY = "key"  # prefix/x.dcm
    URI = "uri"  # s3://bucket/prefix/x.dcm
    BUCKET = "bucket"  # bucket/prefix/x.dcm
    SLASH = "slash"  # /prefix/x.dcm
    RELATIVE = "relative"  # x.dcm: what follows the input prefix


@dataclass(frozen=True, slots=True)
class EmulatorOptions:
    """Latency, quotas, faults, and every point on which AWS's pages are silent.

    ``seconds_submitted``: how long a job stays SUBMITTED before it is IN_PROGRESS.
    ``seconds_per_job`` and ``seconds_per_file``: how long it stays IN_PROGRESS.
    ``slow_jobs``: the next that many jobs stay IN_PROGRESS ``slow_seconds`` longer.
    ``manifest_lag_seconds``: results appear in S3 that long after COMPLETED; with ``summary_ahead``
    job-output-manifest.json is there at COMPLETED, and only the ndjson files come later.
    ``metadata_lag_seconds``: GetImageSetMetadata answers ConflictException that long after an
    import changed the image set.
    ``seconds_per_deletion``: an image set is LOCKED that long before it is gone.
    ``failing_jobs``: the next that many jobs end FAILED with ``failure_message``.
    ``lost_answers``: the next that many StartDICOMImportJob requests are carried out, and answered
    by InternalServerException.
    ``throttled_seconds``: every action is throttled for that long after the options were set.
    ``denied_actions``: the actions, by their API names, that answer AccessDeniedException; ``*``
    stands for all.

    Not told by any page, hence switches: ``client_token_seconds`` (how long a clientToken is
    remembered; None: for ever), ``deleted_image_sets_shown`` (GetImageSet answers DELETED
    for an image set that is gone, and not ResourceNotFoundException), ``input_file_form`` (shown in
    examples only), ``image_set_keys`` (imageSetVersion and isPrimary in the result files),
    ``warnings_output_key`` (warningsOutputS3Uri in the manifest), ``empty_result_files`` (ndjson
    files without a line are written), ``warned_files_in_success`` (a warned file also has a line in
    success.ndjson), ``upper_snake_warning_types`` (the code table's spelling of a warning's type
    instead of the example's).
    """

    quota_profile: QuotaProfile = QuotaProfile.Y2026
    seconds_submitted: float = 0.0
    seconds_per_job: float = 1.0
    seconds_per_file: float = 0.0
    slow_jobs: int = 0
    slow_seconds: float = 0.0
    manifest_lag_seconds: float = 0.0
    summary_ahead: bool = False
    metadata_lag_seconds: float = 0.0
    seconds_per_deletion: float = 0.0
    failing_jobs: int = 0
    failure_message: str = "INTERNAL_ERROR: DICOM import job has failed."
    lost_answers: int = 0
    throttled_seconds: float = 0.0
    denied_actions: frozenset[str] = frozenset()
    client_token_seconds: float | None = None
    deleted_image_sets_shown: bool = False
    input_file_form: InputFileForm = InputFileForm.KEY
    image_set_keys: bool = True
    warnings_output_key: bool = True
    empty_result_files: bool = True
    warned_files_in_success: bool = True
    upper_snake_warning_types: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and value < 0:
                raise ValueError(f"{field.name} is negative: {value}")
        message = shape_named("Message", StringShape)
        for violation in violations(message, self.failure_message, "failure_message"):
            raise ValueError(violation)
        for action in self.denied_actions - {_EVERY_ACTION, *service_model().operation_names}:
            raise ValueError(f"denied_actions has no action of the service: {action}")

    def denies(self, action: str) -> bool:
        """Whether an action answers AccessDeniedException."""
        return not self.denied_actions.isdisjoint({action, _EVERY_ACTION})
