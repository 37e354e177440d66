"""An instance object's S3 user metadata: enough to rebuild its batch's manifest from a listing."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from contract.ae_titles import parse_ae_title
from contract.checksums import Checksum
from contract.errors import ContractError, InvalidMetadata
from contract.keys import InstanceKey
from contract.manifest import ManifestInstance
from contract.uids import parse_uid

# S3 allows 2 KB of user metadata; these are below 800 bytes at their longest.
_SOP_CLASS = "sop-class-uid"
_TRANSFER_SYNTAX = "transfer-syntax-uid"
_STUDY_DATE = "study-date"
_CHECKSUM = "checksum"
_CALLING = "calling-ae-title"
_CALLED = "called-ae-title"
_PEER = "peer-address"
_ASSOCIATION = "association-id"
_BATCH_BY = "batch-by"
_DATASTORE = "datastore-id"
_URGENT = "urgent"
_YES = "true"


@dataclass(frozen=True, slots=True)
class Sender:
    """The association one instance came in on."""

    calling_ae_title: str
    called_ae_title: str
    peer_address: str
    association_id: str


@dataclass(frozen=True, slots=True)
class Target:
    """What the sender's policy says of its batches.

    ``batch_by``: whether a batch holds one study or whatever comes; ``datastore_id`` None: the
    deployment's; an ``urgent`` batch is imported before those that are not.
    """

    batch_by: Literal["study", "mixed"]
    datastore_id: str | None = None
    urgent: bool = False


def to_metadata(
    key: InstanceKey,
    sop_class_uid: str,
    transfer_syntax_uid: str,
    study_date: str | None,
    checksum: Checksum | None,
    sender: Sender,
    target: Target,
) -> dict[str, str]:
    """What the receiver sends along with the object (values are printable ASCII).

    ``checksum`` is None where it is not known when the upload begins; S3 has it in the end.
    """
    metadata = {
        "study-instance-uid": key.study_instance_uid,
        "series-instance-uid": key.series_instance_uid,
        "sop-instance-uid": key.sop_instance_uid,
        _SOP_CLASS: sop_class_uid,
        _TRANSFER_SYNTAX: transfer_syntax_uid,
        _CALLING: sender.calling_ae_title,
        _CALLED: sender.called_ae_title,
        _PEER: sender.peer_address,
        _ASSOCIATION: sender.association_id,
        _BATCH_BY: target.batch_by,
    }
    if checksum is not None:
        metadata[_CHECKSUM] = str(checksum)
    if study_date is not None:
        metadata[_STUDY_DATE] = study_date
    if target.datastore_id is not None:
        metadata[_DATASTORE] = target.datastore_id
    if target.urgent:
        metadata[_URGENT] = _YES
    return metadata


def told_checksum(metadata: Mapping[str, str]) -> Checksum | None:
    """The checksum that the writer of an object has put into its metadata, if it is there.

    Raises InvalidChecksum.
    """
    text = metadata.get(_CHECKSUM)
    return None if text is None else Checksum.parse(text)


def from_metadata(
    key: str, size: int, metadata: Mapping[str, str], checksum: Checksum | None = None
) -> tuple[ManifestInstance, Sender, Target]:
    """Rebuild a manifest's entry, sender and target; the UIDs come from the key.

    Raises InvalidMetadata. ``checksum`` is what S3 itself says of the object, where it does.
    """
    try:
        where = InstanceKey.parse(key)
        instance = ManifestInstance(
            key=key,
            size=size,
            checksum=checksum or Checksum.parse(metadata[_CHECKSUM]),
            sop_class_uid=parse_uid(metadata[_SOP_CLASS]),
            sop_instance_uid=where.sop_instance_uid,
            series_instance_uid=where.series_instance_uid,
            study_instance_uid=where.study_instance_uid,
            study_date=metadata.get(_STUDY_DATE),
            transfer_syntax_uid=parse_uid(metadata[_TRANSFER_SYNTAX]),
        )
        sender = Sender(
            calling_ae_title=parse_ae_title(metadata[_CALLING]),
            called_ae_title=parse_ae_title(metadata[_CALLED]),
            peer_address=metadata[_PEER],
            association_id=metadata[_ASSOCIATION],
        )
        target = Target(
            batch_by="mixed" if metadata.get(_BATCH_BY) == "mixed" else "study",
            datastore_id=metadata.get(_DATASTORE),
            urgent=metadata.get(_URGENT) == _YES,
        )
    except KeyError as missing:
        raise InvalidMetadata(f"the object's metadata lacks {missing.args[0]}") from None
    except ContractError as error:
        raise InvalidMetadata(f"the object's metadata is malformed: {error}") from None
    return instance, sender, target
