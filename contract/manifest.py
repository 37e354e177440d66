"""The batch manifest, version 1: what one import job will import, written once when a batch closes.

The manifest is the pipeline's only list of a batch's instances. Its object's PUT into the DICOM
bucket is the event that starts the import.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

from contract.ae_titles import parse_ae_title
from contract.checksums import Checksum
from contract.errors import ContractError, InvalidManifest
from contract.job_limits import JOB
from contract.keys import InstanceKey, RowKey, batch_prefix, instance_id, parse_batch_id
from contract.times import from_iso, to_iso
from contract.uids import parse_uid

T = TypeVar("T")

VERSION = 1
_DATE = re.compile(r"[0-9]{8}", re.ASCII)


class CloseReason(StrEnum):
    """Why a batch closed."""

    QUIET = "quiet"
    FULL = "full"
    AGE = "age"
    SHUTDOWN = "shutdown"
    RECOVERED = "recovered"
    DROPBOX = "dropbox"


@dataclass(frozen=True, slots=True)
class Source:
    """Who sent a batch: one calling and called AE, every address and association they used."""

    calling_ae_title: str
    called_ae_title: str
    peer_addresses: tuple[str, ...]
    association_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ManifestInstance:
    """One stored SOP instance. ``size`` is in bytes, of the whole Part 10 object."""

    key: str
    size: int
    checksum: Checksum
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    study_date: str | None
    transfer_syntax_uid: str

    @property
    def instance(self) -> str:
        """The instance, whatever batch it is in."""
        return instance_id(self.study_instance_uid, self.series_instance_uid, self.sop_instance_uid)

    @property
    def row_key(self) -> RowKey:
        """What the ledger looks for first."""
        return RowKey(self.instance, str(self.checksum))


@dataclass(frozen=True, slots=True)
class Manifest:
    """A closed batch. ``datastore_id`` is None where the deployment's default is meant.

    An ``urgent`` one is imported before those that are not.
    """

    batch_id: str
    closed_at: datetime
    close_reason: CloseReason
    source: Source
    datastore_id: str | None
    instances: tuple[ManifestInstance, ...]
    urgent: bool = False

    @property
    def prefix(self) -> str:
        """The S3 prefix that holds the batch's instances and nothing else."""
        return batch_prefix(self.batch_id)

    @property
    def studies(self) -> list[str]:
        """The Study Instance UIDs of its instances, each once."""
        return sorted({each.study_instance_uid for each in self.instances})

    def to_json(self) -> bytes:
        """The object body, UTF-8."""
        document = {
            "version": VERSION,
            "batchId": self.batch_id,
            "closedAt": to_iso(self.closed_at),
            "closeReason": self.close_reason,
            "prefix": self.prefix,
            "source": {
                "callingAeTitle": self.source.calling_ae_title,
                "calledAeTitle": self.source.called_ae_title,
                "peerAddresses": list(self.source.peer_addresses),
                "associationIds": list(self.source.association_ids),
            },
            "target": {"datastoreId": self.datastore_id, "urgent": self.urgent},
            "instances": [_instance_to_json(each) for each in self.instances],
        }
        return json.dumps(document, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, body: bytes) -> "Manifest":
        """Read a manifest; any bytes that are not one raise InvalidManifest, naming the member."""
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            raise InvalidManifest("the manifest is not JSON") from None
        try:
            return _manifest_from_json(document)
        except InvalidManifest:
            raise
        except ContractError as error:
            raise InvalidManifest(f"the manifest is malformed: {error}") from None
        except ValueError:  # whose message would repeat the value
            raise InvalidManifest("the manifest's closedAt or closeReason is malformed") from None


def _instance_to_json(instance: ManifestInstance) -> dict[str, str | int | None]:
    return {
        "key": instance.key,
        "size": instance.size,
        "checksum": str(instance.checksum),
        "sopClassUID": instance.sop_class_uid,
        "sopInstanceUID": instance.sop_instance_uid,
        "seriesInstanceUID": instance.series_instance_uid,
        "studyInstanceUID": instance.study_instance_uid,
        "studyDate": instance.study_date,
        "transferSyntaxUID": instance.transfer_syntax_uid,
    }


def _manifest_from_json(document: object) -> Manifest:
    top = _member({"": document}, "", dict)
    if _member(top, "version", int) != VERSION:
        raise InvalidManifest(f"the manifest's version is not {VERSION}")
    batch_id = parse_batch_id(_member(top, "batchId", str))
    if _member(top, "prefix", str) != batch_prefix(batch_id):
        raise InvalidManifest("the manifest's prefix is not its batch's")
    rows = _member(top, "instances", list)
    if not 1 <= len(rows) <= JOB.files:
        raise InvalidManifest(f"a manifest lists 1 to {JOB.files} instances")
    instances = tuple(_instance_from_json(batch_id, row) for row in rows)
    if len({each.key for each in instances}) != len(instances):
        raise InvalidManifest("the manifest lists an instance twice")
    target = _member(top, "target", dict)
    return Manifest(
        batch_id=batch_id,
        closed_at=from_iso(_member(top, "closedAt", str)),
        close_reason=CloseReason(_member(top, "closeReason", str)),
        source=_source_from_json(_member(top, "source", dict)),
        datastore_id=_optional(target, "datastoreId"),
        instances=instances,
        # Version 1 began without it.
        urgent="urgent" in target and _member(target, "urgent", bool),
    )


def _source_from_json(source: Mapping[str, object]) -> Source:
    return Source(
        calling_ae_title=parse_ae_title(_member(source, "callingAeTitle", str)),
        called_ae_title=parse_ae_title(_member(source, "calledAeTitle", str)),
        peer_addresses=_texts(_member(source, "peerAddresses", list), "peerAddresses"),
        association_ids=_texts(_member(source, "associationIds", list), "associationIds"),
    )


def _instance_from_json(batch_id: str, row: object) -> ManifestInstance:
    members = _member({"instances[]": row}, "instances[]", dict)
    size = _member(members, "size", int)
    if size < 0:
        raise InvalidManifest("an instance's size is negative")
    instance = ManifestInstance(
        key=_member(members, "key", str),
        size=size,
        checksum=Checksum.parse(_member(members, "checksum", str)),
        sop_class_uid=parse_uid(_member(members, "sopClassUID", str)),
        sop_instance_uid=parse_uid(_member(members, "sopInstanceUID", str)),
        series_instance_uid=parse_uid(_member(members, "seriesInstanceUID", str)),
        study_instance_uid=parse_uid(_member(members, "studyInstanceUID", str)),
        study_date=_optional(members, "studyDate"),
        transfer_syntax_uid=parse_uid(_member(members, "transferSyntaxUID", str)),
    )
    expected = InstanceKey(
        batch_id,
        instance.study_instance_uid,
        instance.series_instance_uid,
        instance.sop_instance_uid,
    )
    if instance.study_date is not None and not _DATE.fullmatch(instance.study_date):
        raise InvalidManifest("an instance's studyDate is not YYYYMMDD")
    if instance.key != str(expected):
        raise InvalidManifest("an instance's key does not follow from its UIDs and batch")
    return instance


def _member(members: Mapping[str, object], name: str, kind: type[T]) -> T:
    value = members.get(name)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise InvalidManifest(f"the manifest's {name or 'root'} is not a {kind.__name__}")
    return value


def _optional(members: Mapping[str, object], name: str) -> str | None:
    return None if members.get(name) is None else _member(members, name, str)


def _texts(values: Sequence[Any], name: str) -> tuple[str, ...]:
    return tuple(_member({name: value}, name, str) for value in values)
