"""The receiver's settings, read once from the environment.

Names and defaults are the reference product's where it has them. Every limit says where
its number comes from. A variable set to nothing counts as unset.
"""

import os
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from contract.ae_titles import parse_ae_title
from contract.job_limits import BATCH, JOB
from contract.uids import parse_uid
from store_scp.errors import SettingsInvalid
from store_scp.negotiation import accepts_transfer_syntax

_GIB = 1024**3


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


def available_cpus() -> int:
    """The CPUs this process may run on, which a container can have fewer of than the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _transfer_syntax(uid: str) -> str:
    if not accepts_transfer_syntax(uid):
        raise ValueError("is not a transfer syntax the receiver accepts")
    return uid


AeTitle = Annotated[str, AfterValidator(parse_ae_title)]
Uid = Annotated[str, AfterValidator(parse_uid)]
Network = IPv4Network | IPv6Network
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
    # Ours. Whether a file is acknowledged only once the disk has it, or as soon as the system does:
    # enough where the storage goes with the machine anyway, as a Fargate task's own does.
    storage_fsync: bool = Field(True, alias="STORAGE_FSYNC")

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
    # Of each worker. A PUT that finds none free waits, inside DIMSE_TIMEOUT.
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
    # Ours. From a PDU's first byte to its last, so that no peer holds a connection with one byte a
    # second. The largest PDU by default takes 4.4 s at 30 KB/s, a slow link's worst.
    pdu_timeout: Seconds = Field(60, alias="PDU_TIMEOUT")
    # Ours. For the next 64 KiB of a message, or its rest, so that no peer holds an association with
    # two bytes every few seconds. Longer than NETWORK_TIMEOUT, so that a sender may pause once.
    message_timeout: Seconds = Field(120, alias="MESSAGE_TIMEOUT")
    # Empty accepts every storage SOP class and every private one.
    supported_sop_class_uids: Annotated[tuple[Uid, ...], BeforeValidator(_split)] = Field(
        (), alias="SUPPORTED_SOP_CLASS_UIDS"
    )
    # Ours. Chosen before all others, the first named first, wherever a context proposes one. Empty:
    # what HealthImaging imports natively.
    preferred_transfer_syntax_uids: Annotated[
        tuple[Annotated[Uid, AfterValidator(_transfer_syntax)], ...], BeforeValidator(_split)
    ] = Field((), alias="PREFERRED_TRANSFER_SYNTAX_UIDS")
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
    batch_max_files: int = Field(BATCH.files, alias="BATCH_MAX_FILES", ge=1, le=JOB.files)
    batch_max_bytes: int = Field(BATCH.size_bytes, alias="BATCH_MAX_BYTES", ge=1, le=JOB.size_bytes)
    # 50 MB of metadata a job, of which BatchBook estimates each instance's.
    batch_max_metadata_bytes: int = Field(
        BATCH.metadata_bytes, alias="BATCH_MAX_METADATA_BYTES", ge=1, le=JOB.metadata_bytes
    )
    # A quarter of an hour bounds how long an image of an endless study waits for its import.
    batch_max_age_seconds: Seconds = Field(900, alias="BATCH_MAX_AGE_SECONDS")
    # The DynamoDB table of batches. Unset: no leases, and what a killed task acknowledged without a
    # manifest is found by reconciliation only.
    batch_table: str | None = Field(None, alias="BATCH_TABLE", pattern=r"^[a-zA-Z0-9_.-]{3,255}$")
    # How long a task owns a batch without renewing, and so, with recovery's grace of two minutes,
    # how late the images of a killed task are imported. Renewed at a third: 3 writes a minute.
    lease_seconds: Seconds = Field(60, alias="LEASE_SECONDS", ge=1, le=3_600)
    # HealthImaging's limit for one file (10 GB since lately); also below S3's 5 GiB for one PUT.
    max_instance_bytes: int = Field(4 * _GIB, alias="MAX_INSTANCE_BYTES", ge=1, le=4 * _GIB)
    # One process per CPU; each has one thread, and takes the connections the kernel hands it.
    workers: int = Field(default_factory=available_cpus, alias="SCP_WORKERS", ge=1, le=64)
    # Asynchronous Operations Window (PS3.7 D.3.3.3): granted to peers that propose one. 8 hide a
    # PUT of 40 ms behind the transfer of 0.5 MB images at 100 MB/s.
    max_operations: int = Field(8, alias="SCP_MAX_OPERATIONS", ge=1, le=64)
    # Received bytes that are not durable yet, of all workers together. The container's memory is at
    # most this + 60 MiB + 60 MiB for each worker + 256 KiB for each association. Below the
    # reference's TaskMemoryLimit of 2,048 MiB, and room for 128 instances of 8 MiB or more at once.
    buffer_bytes: int = Field(_GIB, alias="SCP_BUFFER_BYTES", ge=64 * 1024**2, le=64 * _GIB)

    # Which peers may do what, by AE title, address and certificate: see docs/access.md.
    policy_file: Path | None = Field(None, alias="SCP_POLICY")

    # The plain port can be switched off where the TLS port is the only one wanted.
    plain: bool = Field(True, alias="SCP_PLAIN")
    # 2762 is IANA's port for DICOM over TLS (PS3.15 B.1). 0 lets the system choose (tests).
    tls_port: int | None = Field(None, alias="SCP_TLS_PORT", ge=0, le=65_535)
    tls_certificate: Path | None = Field(None, alias="SCP_TLS_CERTIFICATE")
    tls_key: Path | None = Field(None, alias="SCP_TLS_KEY")
    # Naming it makes TLS mutual: a peer without a certificate of this CA has no handshake.
    tls_client_ca: Path | None = Field(None, alias="SCP_TLS_CLIENT_CA")
    tls_handshake_timeout: Seconds = Field(10, alias="TLS_HANDSHAKE_TIMEOUT")

    # Never guessed from the bytes: with v2, every connection from a trusted address begins with a
    # PROXY protocol header, and no other address may connect.
    proxy_protocol: Literal["off", "v2"] = Field("off", alias="SCP_PROXY_PROTOCOL")
    proxy_trusted_cidrs: Annotated[tuple[Network, ...], BeforeValidator(_split)] = Field(
        (), alias="SCP_PROXY_TRUSTED_CIDRS"
    )

    # /health/live, /health/ready and /metrics. 0 lets the system choose (tests).
    health_port: int = Field(8_080, alias="SCP_HEALTH_PORT", ge=0, le=65_535)
    # CloudWatch's embedded metric format in the log, once a minute, under this namespace.
    emf_namespace: str | None = Field(
        None, alias="SCP_EMF_NAMESPACE", pattern=r"^[A-Za-z0-9_./#-]{1,255}$"
    )

    # ECS tells every task where its agent is. While there is work, it is asked to protect the task
    # from scale-in for so long, and again at half of it. 0: never, as for a task of no service.
    ecs_agent_uri: str | None = Field(None, alias="ECS_AGENT_URI", pattern=r"^http://[^/\s]+")
    protection_minutes: int = Field(10, alias="SCP_PROTECTION_MINUTES", ge=0, le=2_880)

    # Fargate kills a task at most 120 s after SIGTERM (stopTimeout); the rest is for the manifests.
    drain_seconds: float = Field(100, alias="DRAIN_SECONDS", ge=0, le=3_600, allow_inf_nan=False)

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        problems = [text for broken, text in self._rules() if broken]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _rules(self) -> Iterator[tuple[bool, str]]:
        """Rules between variables: whether each is broken, and what it says."""
        tls = self.tls_port is not None
        files = self.tls_certificate is not None and self.tls_key is not None
        yield tls and not files, "SCP_TLS_PORT needs SCP_TLS_CERTIFICATE and SCP_TLS_KEY"
        given = self.tls_certificate or self.tls_key or self.tls_client_ca
        yield bool(given) and not tls, "SCP_TLS_CERTIFICATE, _KEY and _CLIENT_CA need SCP_TLS_PORT"
        yield not (tls or self.plain), "SCP_PLAIN=false needs SCP_TLS_PORT"
        leased = self.batch_table is not None
        yield leased and self.dicom_bucket is None, "BATCH_TABLE needs DICOM_BUCKET"
        trusted = bool(self.proxy_trusted_cidrs)
        proxied = self.proxy_protocol == "v2"
        yield proxied and not trusted, "SCP_PROXY_PROTOCOL=v2 needs SCP_PROXY_TRUSTED_CIDRS"
        yield trusted and not proxied, "SCP_PROXY_TRUSTED_CIDRS needs SCP_PROXY_PROTOCOL=v2"

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
        rule = each["msg"].removeprefix("Value error, ")
        if not each["loc"]:  # a rule between variables, which it names
            lines.extend(f"  {part}" for part in rule.split("; "))
            continue
        lines.append(f"  {each['loc'][0]}={each['input']!r}: {rule[:1].lower()}{rule[1:]}")
    return "\n".join(lines)
