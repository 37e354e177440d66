"""The receiver's settings, read once from the environment.

Names and defaults are the reference product's where it has them. Every limit says where
its number comes from. A variable set to nothing counts as unset.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from contract.ae_titles import parse_ae_title
from contract.manifest import MAX_INSTANCES
from contract.uids import parse_uid
from store_scp.errors import SettingsInvalid

_GIB = 1024**3
# HealthImaging takes at most 10 GB (decimal) in one import job.
# https://docs.aws.amazon.com/general/latest/gr/healthimaging.html
_MAX_JOB_BYTES = 10_000_000_000


def _split(value: object) -> object:
    """``A, B`` as ``["A", "B"]``."""
    if not isinstance(value, str):
        return value
    return [part.strip() for part in value.split(",") if part.strip()]


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _bounded_pdu(size: int) -> int:
    if size == 0:
        raise ValueError("0 means PDUs without a limit, and so memory without a limit: set a size")
    if not _MIN_PDU <= size <= _MAX_PDU:
        raise ValueError(f"must be from {_MIN_PDU} to {_MAX_PDU}")
    return size


# DCMTK's bounds are 4,096 and 131,072; 1 MiB leaves room for peers that insist on more, and gains
# nothing measurable above 131,072.
_MIN_PDU = 4_096
_MAX_PDU = 1_048_576

AeTitle = Annotated[str, AfterValidator(parse_ae_title)]
Uid = Annotated[str, AfterValidator(parse_uid)]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


class Settings(BaseModel):
    """Everything that can be set; build it with :meth:`from_env`."""

    model_config = ConfigDict(frozen=True, extra="ignore", validate_default=True)

    # Where instances go: a bucket, or a directory where no bucket is named. Defaults and names of
    # the reference product, as is everything down to LOG_LEVEL unless a comment says otherwise.
    dicom_bucket: str | None = Field(
        None, alias="DICOM_BUCKET", pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"
    )
    storage_dir: Path = Field(Path("/app/storage"), alias="STORAGE_DIR")

    # Ours. All interfaces: the receiver runs in a container whose security group says who may call.
    bind_address: str = Field("0.0.0.0", alias="SCP_BIND_ADDRESS")  # noqa: S104
    # 11112 is IANA's port for DICOM without privileges. 0 lets the system choose (tests).
    port: int = Field(11_112, alias="SCP_PORT", ge=0, le=65_535)
    ae_title: AeTitle = Field("STORESCP", alias="AE_TITLE")
    require_called_ae_title: bool = Field(False, alias="REQUIRE_CALLED_AE_TITLE")
    # The reference takes one title, ours a list separated by commas; empty admits every peer.
    require_calling_ae_title: Annotated[tuple[AeTitle, ...], BeforeValidator(_split)] = Field(
        (), alias="REQUIRE_CALLING_AE_TITLE"
    )
    max_pool_connections: int = Field(50, alias="MAX_POOL_CONNECTIONS", ge=1, le=1_000)
    dimse_timeout: Seconds = Field(60, alias="DIMSE_TIMEOUT", ge=10)
    maximum_associations: int = Field(300, alias="MAXIMUM_ASSOCIATIONS", ge=1, le=10_000)
    # The reference's default is 0, unlimited. 131,072 is what DCMTK stops at; 16 KiB costs a
    # quarter more CPU, 1 MiB saves none.
    maximum_pdu_size: Annotated[int, AfterValidator(_bounded_pdu)] = Field(
        131_072, alias="MAXIMUM_PDU_SIZE"
    )
    network_timeout: Seconds = Field(90, alias="NETWORK_TIMEOUT")
    # Ours. PS3.8 9.1.5 asks for ARTIM and leaves its length open; 30 s is pynetdicom's and DCMTK's.
    artim_timeout: Seconds = Field(30, alias="ARTIM_TIMEOUT")
    # Empty accepts every storage SOP class and every private one.
    supported_sop_class_uids: Annotated[tuple[Uid, ...], BeforeValidator(_split)] = Field(
        (), alias="SUPPORTED_SOP_CLASS_UIDS"
    )
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_upper)
    ] = Field("INFO", alias="LOG_LEVEL")

    # All below are ours. JSON is what CloudWatch Logs Insights indexes.
    log_format: Literal["json", "console"] = Field("json", alias="LOG_FORMAT")
    batch_by: Literal["study", "mixed"] = Field("study", alias="BATCH_BY")
    # PACS send one study in several associations, seconds apart; 5 s joins most of them, and delays
    # an import by no more.
    batch_quiet_seconds: Seconds = Field(5, alias="BATCH_QUIET_SECONDS")
    # Some senders keep an association open for hours; 30 s is longer than a scanner's pause
    # between two series.
    batch_held_quiet_seconds: Seconds = Field(30, alias="BATCH_HELD_QUIET_SECONDS")
    # HealthImaging's quotas are 5,000 files and 10 GB a job; a tenth is kept free for recovery.
    batch_max_files: int = Field(4_500, alias="BATCH_MAX_FILES", ge=1, le=MAX_INSTANCES)
    batch_max_bytes: int = Field(8 * _GIB, alias="BATCH_MAX_BYTES", ge=1, le=_MAX_JOB_BYTES)
    # A quarter of an hour bounds how long an image of an endless study waits for its import.
    batch_max_age_seconds: Seconds = Field(900, alias="BATCH_MAX_AGE_SECONDS")
    # HealthImaging's limit for one file (10 GB since lately); also below S3's 5 GiB for one PUT.
    max_instance_bytes: int = Field(4 * _GIB, alias="MAX_INSTANCE_BYTES", ge=1, le=4 * _GIB)
    # Fargate kills a task at most 120 s after SIGTERM (stopTimeout); the rest is for the manifests.
    drain_seconds: float = Field(100, alias="DRAIN_SECONDS", ge=0, le=3_600, allow_inf_nan=False)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Read the variables known and set; raises SettingsInvalid, which names every bad one."""
        try:
            return cls.model_validate({name: text for name, text in environ.items() if text})
        except ValidationError as error:
            raise SettingsInvalid(_readable(error)) from None


def _readable(error: ValidationError) -> str:
    lines = ["The settings cannot be used:"]
    for each in error.errors(include_url=False):
        name = str(each["loc"][0])
        rule = each["msg"].removeprefix("Value error, ")
        lines.append(f"  {name}={each['input']!r}: {rule[:1].lower()}{rule[1:]}")
    return "\n".join(lines)
