"""What a C-STORE request must be before a sink sees it (PS3.4 B.2, PS3.7 9.1.1)."""

from dataclasses import dataclass

from contract.header import Header
from contract.uids import is_uid
from store_scp.dimse.status import Status
from store_scp.errors import StoreRefused
from store_scp.negotiation import VERIFICATION


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """A C-STORE-RQ and its presentation context; the command's UIDs are as the peer wrote them."""

    affected_sop_class_uid: str
    affected_sop_instance_uid: str
    abstract_syntax: str
    transfer_syntax_uid: str


def check_command(request: StoreRequest) -> None:
    """Judge the request before its data set arrives; raises StoreRefused."""
    if not is_uid(request.affected_sop_instance_uid):
        raise StoreRefused(Status.INVALID_SOP_INSTANCE)
    if request.affected_sop_class_uid != request.abstract_syntax or (
        request.abstract_syntax == VERIFICATION
    ):
        raise StoreRefused(Status.SOP_CLASS_NOT_SUPPORTED)


def check_header(request: StoreRequest, header: Header) -> None:
    """Judge the data set by its header; raises StoreRefused. The command has to be good."""
    if header.sop_class_uid != request.affected_sop_class_uid:
        raise StoreRefused(Status.DATA_SET_MISMATCH, "SOP Class UID")
    if header.sop_instance_uid != request.affected_sop_instance_uid:
        raise StoreRefused(Status.DATA_SET_MISMATCH, "SOP Instance UID")
