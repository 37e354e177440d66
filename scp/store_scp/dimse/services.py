"""What a C-STORE request must be before a sink sees it (PS3.4 B.2, PS3.7 9.1.1)."""

from dataclasses import dataclass

from contract.metadata import Sender
from contract.uids import is_uid
from store_scp.dimse.status import Status
from store_scp.errors import StoreRefused
from store_scp.instance import Instance
from store_scp.negotiation import VERIFICATION
from store_scp.part10 import Header, read_header


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """A C-STORE-RQ and its presentation context; the two command UIDs are as the peer wrote them.

    ``data_set`` is None, or empty, where the message had none.
    """

    affected_sop_class_uid: str
    affected_sop_instance_uid: str
    abstract_syntax: str
    transfer_syntax_uid: str
    data_set: memoryview | None


def accept_store(request: StoreRequest, sender: Sender, max_bytes: int) -> Instance:
    """The instance a sink may have; raises StoreRefused with the first rule that is broken."""
    _check_command(request)
    if not request.data_set:
        raise StoreRefused(Status.NO_DATA_SET)
    header = read_header(request.data_set, request.transfer_syntax_uid)
    _check_match(request, header)
    if len(request.data_set) > max_bytes:
        raise StoreRefused(Status.OUT_OF_RESOURCES, f"larger than {max_bytes} bytes")
    return Instance.build(header, request.transfer_syntax_uid, request.data_set, sender)


def _check_command(request: StoreRequest) -> None:
    if not is_uid(request.affected_sop_instance_uid):
        raise StoreRefused(Status.INVALID_SOP_INSTANCE)
    if request.affected_sop_class_uid != request.abstract_syntax or (
        request.abstract_syntax == VERIFICATION
    ):
        raise StoreRefused(Status.SOP_CLASS_NOT_SUPPORTED)


def _check_match(request: StoreRequest, header: Header) -> None:
    if header.sop_class_uid != request.affected_sop_class_uid:
        raise StoreRefused(Status.DATA_SET_MISMATCH, "SOP Class UID")
    if header.sop_instance_uid != request.affected_sop_instance_uid:
        raise StoreRefused(Status.DATA_SET_MISMATCH, "SOP Instance UID")
