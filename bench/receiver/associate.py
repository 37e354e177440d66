"""Opening and closing an association; pynetdicom encodes it, for it is not what is measured."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass

from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ, A_RELEASE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    A_RELEASE,
    AsynchronousOperationsWindowNegotiation,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import build_context

from bench.receiver.errors import PeerFailed
from bench.receiver.pdus import PDU_HEADER
from bench.receiver.sets import TRANSFER_SYNTAX

# What a peer without a limit is sent: our own receiver's maximum, the best size measured.
_NO_LIMIT = 131_072
_OWN_MAXIMUM = 16_384
_ACCEPTED_PDU = 0x02
_SECONDS = 30.0
_IMPLEMENTATION_CLASS_UID = f"2.25.{10**38}"


@dataclass(frozen=True, slots=True)
class Agreed:
    """What the peer granted: its largest PDU, and how many operations may be outstanding."""

    max_pdu: int
    window: int


def associate(
    port: int, sop_class_uids: Sequence[str], window: int
) -> tuple[socket.socket, Agreed]:
    """An established association with the peer on this machine; raises PeerFailed."""
    connection = socket.create_connection(("127.0.0.1", port), _SECONDS)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(associate_request(sop_class_uids, window))
        return connection, agreed(_receive_pdu(connection), window)
    except OSError as error:
        connection.close()
        raise PeerFailed(f"no association: {error}") from None
    except PeerFailed:
        connection.close()
        raise


def release(connection: socket.socket) -> None:
    """Ask for release and wait for the answer, whatever it is; then close."""
    with connection:
        connection.settimeout(_SECONDS)
        request = A_RELEASE_RQ()
        request.from_primitive(A_RELEASE())
        connection.sendall(request.encode())
        connection.recv(4096)


def associate_request(sop_class_uids: Sequence[str], window: int) -> bytes:
    """An A-ASSOCIATE-RQ with a presentation context for each class, of ids 1, 3, 5, ..."""
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title = "BENCH"
    primitive.called_ae_title = "STORESCP"
    contexts = [build_context(each, TRANSFER_SYNTAX) for each in sop_class_uids]
    for number, context in enumerate(contexts):
        context.context_id = 1 + 2 * number
    primitive.presentation_context_definition_list = contexts
    maximum = MaximumLengthNotification()
    maximum.maximum_length_received = _OWN_MAXIMUM
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = _IMPLEMENTATION_CLASS_UID
    primitive.user_information = [maximum, implementation]
    if window > 1:
        proposal = AsynchronousOperationsWindowNegotiation()
        proposal.maximum_number_operations_invoked = window
        primitive.user_information.append(proposal)
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive)
    return pdu.encode()


def agreed(answer: bytes, window: int) -> Agreed:
    """What a whole PDU grants that answers an A-ASSOCIATE-RQ; raises PeerFailed if nothing."""
    if answer[0] != _ACCEPTED_PDU:
        raise PeerFailed(f"association not accepted: PDU type {answer[0]:02X}H")
    pdu = A_ASSOCIATE_AC()
    pdu.decode(answer)
    primitive = pdu.to_primitive()
    if any(each.result for each in primitive.presentation_context_definition_results_list):
        raise PeerFailed("presentation context not accepted")
    invoked = 1
    for item in primitive.user_information:
        if isinstance(item, AsynchronousOperationsWindowNegotiation):
            # 0 grants any number (PS3.7 D.3.3.3).
            invoked = item.maximum_number_operations_invoked or window
    return Agreed(primitive.maximum_length_received or _NO_LIMIT, min(window, invoked))


def _receive_pdu(connection: socket.socket) -> bytes:
    header = _receive(connection, PDU_HEADER.size)
    return header + _receive(connection, PDU_HEADER.unpack(header)[1])


def _receive(connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        data = connection.recv(size - len(received))
        if not data:
            raise PeerFailed("connection closed instead of an answer to A-ASSOCIATE-RQ")
        received += data
    return received
