"""The names of objects in the DICOM bucket, and the batch ids inside them.

HealthImaging imports everything under a prefix, so instances and manifests never share one.
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote

from contract.errors import InvalidKey, InvalidUid
from contract.uids import parse_uid

INSTANCES_PREFIX = "instances/"
MANIFESTS_PREFIX = "batches/"
MANIFEST_SUFFIX = ".json"
DROPBOX_PREFIX = "dropbox/"
QUARANTINE_PREFIX = "quarantine/"
# Exact copies of what another batch imports; a lifecycle rule deletes them.
DUPLICATES_PREFIX = "duplicates/"
# What each job did to each instance of its batch; kept as long as manifests.
OUTCOMES_PREFIX = "outcomes/"

# Also a Step Functions execution name (80 characters, no ``:/,;``), a HealthImaging clientToken and
# jobName (64 of ``[A-Za-z0-9._-]``): one id from the association to the import job.
_BATCH_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{16}", re.ASCII)
BATCH_ENTROPY_BYTES = 8
_REASON = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*", re.ASCII)
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+", re.ASCII)
_MAX_NAME = 200
_DIGEST_LENGTH = 12


def new_batch_id(opened_at: datetime, entropy: bytes) -> str:
    """A batch id that sorts by opening time: ``20261123T093000Z-0123456789abcdef``.

    ``entropy`` is 8 random bytes, given by the caller so that this stays a function of its input.
    """
    if len(entropy) != BATCH_ENTROPY_BYTES:
        raise InvalidKey(f"a batch id takes {BATCH_ENTROPY_BYTES} bytes of entropy")
    return f"{opened_at.astimezone(UTC):%Y%m%dT%H%M%SZ}-{entropy.hex()}"


def parse_batch_id(text: str) -> str:
    """``text`` itself if it is a batch id; raises InvalidKey."""
    if not _BATCH_ID.fullmatch(text):
        raise InvalidKey("not a batch id (YYYYMMDDTHHMMSSZ-16 hex digits)")
    return text


def batch_prefix(batch_id: str) -> str:
    """What HealthImaging is told to import; always ends in ``/`` so that no sibling matches."""
    return f"{INSTANCES_PREFIX}{parse_batch_id(batch_id)}/"


def manifest_key(batch_id: str) -> str:
    """Where a batch's manifest stands; its PUT starts the import."""
    return f"{MANIFESTS_PREFIX}{parse_batch_id(batch_id)}{MANIFEST_SUFFIX}"


def outcome_key(batch_id: str, job_id: str, status: str) -> str:
    """Where it stands what a job did that ended as ``status`` says."""
    return f"{OUTCOMES_PREFIX}{parse_batch_id(batch_id)}/{quote(job_id, safe='')}-{status}.json"


def parse_manifest_key(key: str) -> str:
    """The batch id in a manifest's key; raises InvalidKey."""
    if not (key.startswith(MANIFESTS_PREFIX) and key.endswith(MANIFEST_SUFFIX)):
        raise InvalidKey("not a manifest key (batches/<batchId>.json)")
    return parse_batch_id(key[len(MANIFESTS_PREFIX) : -len(MANIFEST_SUFFIX)])


def quarantine_key(reason: str, name: str) -> str:
    """``quarantine/<reason>/<name>``, with whatever is unsafe in ``name`` replaced by ``_``."""
    return f"{_quarantine(reason)}{_UNSAFE.sub('_', name)[-_MAX_NAME:]}"


def key_digest(key: str) -> str:
    """What stands for a key in log lines; a key that others chose may name a patient.

    ``printf %s KEY | sha256sum | cut -c1-12`` gives the same. Takes any text: a forged event's key
    may have surrogates, which are no UTF-8.
    """
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_LENGTH]


def _quarantine(reason: str) -> str:
    if not _REASON.fullmatch(reason):
        raise InvalidKey("a quarantine reason is lower-case words joined by hyphens")
    return f"{QUARANTINE_PREFIX}{reason}/"


def instance_id(study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str) -> str:
    """What tells an instance from every other: no UID has a slash."""
    return f"{study_instance_uid}/{series_instance_uid}/{sop_instance_uid}"


class RowKey(NamedTuple):
    """An instance and a content of it, as the ledger names them: by its checksum, first of all."""

    instance: str
    version: str

    def beside(self, which: str) -> "RowKey":
        """Another with the same checksum."""
        return RowKey(self.instance, f"{self.version}~{which}")


def bytes_name(sha256: str, datastore_id: str) -> str:
    """What names a row beside the first: the SHA-256 of its bytes, and where they are imported."""
    return f"{sha256}@{datastore_id}"


@dataclass(frozen=True, slots=True)
class InstanceKey:
    """``instances/<batchId>/<Study>/<Series>/<SOP Instance UID>.dcm``, every part validated."""

    batch_id: str
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str

    def __post_init__(self) -> None:
        parse_batch_id(self.batch_id)
        for uid in (self.study_instance_uid, self.series_instance_uid, self.sop_instance_uid):
            parse_uid(uid)

    def __str__(self) -> str:
        return f"{batch_prefix(self.batch_id)}{self.instance}.dcm"

    @property
    def instance(self) -> str:
        """The instance, whatever batch it is in."""
        return instance_id(self.study_instance_uid, self.series_instance_uid, self.sop_instance_uid)

    def quarantined(self, reason: str) -> str:
        """Where the instance goes that cannot be imported: ``quarantine/<reason>/<batchId>/...``"""
        return f"{_quarantine(reason)}{str(self).removeprefix(INSTANCES_PREFIX)}"

    def duplicate(self) -> str:
        """Where the instance goes that another batch imports, byte for byte."""
        return f"{DUPLICATES_PREFIX}{str(self).removeprefix(INSTANCES_PREFIX)}"

    @classmethod
    def parse(cls, key: str) -> "InstanceKey":
        """Read a key back; raises InvalidKey."""
        parts = key.removeprefix(INSTANCES_PREFIX).removesuffix(".dcm").split("/")
        try:
            parsed = cls(*parts)
        except (TypeError, InvalidUid):
            raise InvalidKey("not an instance key") from None
        if str(parsed) != key:
            raise InvalidKey("not an instance key")
        return parsed
