"""An instance object's S3 user metadata: enough to rebuild its batch's manifest from a listing."""

from collections.abc import Mapping
from dataclasses import dataclass

from contract.ae_titles import parse_ae_title
from contract.checksums import Checksum
from contract.errors import ContractError, InvalidMetadata
from contract.keys import InstanceKey
from contract.manifest import ManifestInstance
from contract.uids import parse_uid

# S3 allows 2 KB of user metadata; these are below 700 bytes at their longest.
_SOP_CLASS = "sop-class-uid"
_TRANSFER_SYNTAX = "transfer-syntax-uid"
_STUDY_DATE = "study-date"
_CHECKSUM = "checksum"
_CALLING = "calling-ae-title"
_CALLED = "called-ae-title"
_PEER = "peer-address"
_ASSOCIATION = "association-id"


@dataclass(frozen=True, slots=True)
class Sender:
    """The association one instance came in on."""

    calling_ae_title: str
    called_ae_title: str
    peer_address: str
    association_id: str


def to_metadata(instance: ManifestInstance, sender: Sender) -> dict[str, str]:
    """What the receiver sends along with the object (values are printable ASCII)."""
    metadata = {
        "study-instance-uid": instance.study_instance_uid,
        "series-instance-uid": instance.series_instance_uid,
        "sop-instance-uid": instance.sop_instance_uid,
        _SOP_CLASS: instance.sop_class_uid,
        _TRANSFER_SYNTAX: instance.transfer_syntax_uid,
        _CHECKSUM: str(instance.checksum),
        _CALLING: sender.calling_ae_title,
        _CALLED: sender.called_ae_title,
        _PEER: sender.peer_address,
        _ASSOCIATION: sender.association_id,
    }
    if instance.study_date is not None:
        metadata[_STUDY_DATE] = instance.study_date
    return metadata


def from_metadata(
    key: str, size: int, metadata: Mapping[str, str]
) -> tuple[ManifestInstance, Sender]:
    """Rebuild the manifest's entry; the UIDs come from the key. Raises InvalidMetadata."""
    try:
        where = InstanceKey.parse(key)
        instance = ManifestInstance(
            key=key,
            size=size,
            checksum=Checksum.parse(metadata[_CHECKSUM]),
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
    except KeyError as missing:
        raise InvalidMetadata(f"the object's metadata lacks {missing.args[0]}") from None
    except ContractError as error:
        raise InvalidMetadata(f"the object's metadata is malformed: {error}") from None
    return instance, sender
