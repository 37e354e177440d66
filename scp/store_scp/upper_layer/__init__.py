"""The DICOM Upper Layer (PS3.8) for the side that accepts associations, without I/O.

::

    bytes -> Connection.receive() -> events:
        AssociationRequested   answer with accept() or reject()
        DataFragment           a piece of a message, where it lies in the received bytes
        Released               the peer asked to; answer with release() once nothing is owed to it
        Aborted                the peer broke it off
        ProtocolViolated       the peer broke PS3.8; the A-ABORT for it is in data_to_send()
    Connection.data_to_send() -> bytes for the peer, after every call

No matter what bytes a peer sends, in which pieces, what comes out is one of these events.
"""

from store_scp.upper_layer.connection import (
    Aborted,
    AssociationRequested,
    Connection,
    DataFragment,
    Event,
    ProtocolViolated,
    Released,
)
from store_scp.upper_layer.pdus import AssociateRequest, ProposedContext
from store_scp.upper_layer.states import IllegalTransition, State

__all__ = [
    "Aborted",
    "AssociateRequest",
    "AssociationRequested",
    "Connection",
    "DataFragment",
    "Event",
    "IllegalTransition",
    "ProposedContext",
    "ProtocolViolated",
    "Released",
    "State",
]
