"""pynetdicom's association, bent to our sessions: the part that our own upper layer will replace.

Three methods of pynetdicom are overridden, because its events come too late or answer too much:
negotiation is ours (it would let the acceptor's order of transfer syntaxes decide), every DIMSE
request is ours (it drops a C-STORE without UIDs unanswered, and one for a private SOP class), and
an association's end is seen whatever ended it.
"""

import logging
from typing import TYPE_CHECKING, Any, cast

import pydicom.config
from pynetdicom import _config
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.acse import ACSE
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_ECHO, C_STORE
from pynetdicom.presentation import PresentationContext

from contract.uids import is_uid
from store_scp.dimse.services import StoreRequest
from store_scp.dimse.status import Status
from store_scp.errors import AssociationRejected
from store_scp.negotiation import (
    VERIFICATION,
    ContextResult,
    NegotiatedContext,
    ProposedContext,
)
from store_scp.session import Reception, Session

if TYPE_CHECKING:
    from pynetdicom.pdu_primitives import A_ASSOCIATE

# PS3.8 9.3.3.2: a refused context still names a transfer syntax, which means nothing.
_INSIGNIFICANT = "1.2.840.10008.1.2"


def prepare_libraries() -> None:
    """Make pynetdicom and pydicom silent and tolerant; what is tolerated is judged by our code."""
    # Their log lines and warnings repeat what the peer wrote.
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
    _config.LOG_HANDLER_LEVEL = "none"
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    # An over-long UID would end the association; ours answers it with 0117H.
    _config.VALIDATORS["UI"] = lambda _: (True, "")


class StoreAssociation(Association):
    """One connection, from accept to close."""

    def __init__(self, ae: ApplicationEntity, reception: Reception) -> None:
        super().__init__(ae, MODE_ACCEPTOR)
        self.acse = _Negotiator(self)
        self.reception = reception
        # None until a session was granted: a load balancer's probe never has one.
        self.session: Session | None = None

    def run_reactor(self) -> None:
        """Serve the association; its thread's body."""
        try:
            super().run_reactor()
        finally:
            if self.session:
                self.reception.leave(self.session, "released" if self.is_released else "aborted")

    @property
    def is_connected(self) -> bool:
        """Whether the connection is open; after an abort, until the peer was told."""
        return self.dul.socket is not None and self.dul.socket.socket is not None

    def hang_up(self) -> None:
        """Close the connection under whatever waits for it, and let both threads end."""
        self.dul.kill_dul()
        if self.dul.socket:
            self.dul.socket.close()

    def _serve_request(self, msg: Any, context_id: int) -> None:
        context = self._accepted_cx.get(context_id)
        if context is None or self.session is None or msg.MessageID is None:
            self.abort()
        elif isinstance(msg, C_STORE):
            self._answer(msg, context_id, self.session.store(_store_request(msg, context)))
        elif isinstance(msg, C_ECHO):
            echo = context.abstract_syntax == VERIFICATION
            status = Status.SUCCESS if echo else Status.SOP_CLASS_NOT_SUPPORTED
            self._answer(msg, context_id, status)
        else:  # a service that was not negotiated
            self.abort()

    def _answer(self, request: C_STORE | C_ECHO, context_id: int, status: Status) -> None:
        response: Any = type(request)()
        response.MessageIDBeingRespondedTo = request.MessageID
        response.Status = status.code
        if is_uid(request.AffectedSOPClassUID or ""):
            response.AffectedSOPClassUID = request.AffectedSOPClassUID
        if isinstance(request, C_STORE) and is_uid(request.AffectedSOPInstanceUID or ""):
            response.AffectedSOPInstanceUID = request.AffectedSOPInstanceUID
        if status is not Status.SUCCESS:
            response.ErrorComment = status.comment
        if self.is_established:
            self.dimse.send_msg(response, context_id)


class _Negotiator(ACSE):
    """Association control that asks our session instead of its own tables."""

    def _negotiate_as_acceptor(self) -> None:
        association = cast("StoreAssociation", self.assoc)
        request = cast("A_ASSOCIATE", self.requestor.primitive)
        try:
            session = association.reception.enter(
                request.calling_ae_title or "",
                request.called_ae_title or "",
                self.requestor.address_info.address if self.requestor.address_info else "",
            )
        except AssociationRejected as rejected:
            self.send_reject(rejected.result, rejected.source, rejected.reason)
            association.kill()
            return
        association.session = session
        results = session.negotiate(
            _proposed(each) for each in request.presentation_context_definition_list
        )
        self._accept(association, results)

    def _accept(
        self, association: StoreAssociation, results: tuple[NegotiatedContext, ...]
    ) -> None:
        contexts = [_answered(each) for each in results]
        association._accepted_cx = {  # noqa: SLF001 - where pynetdicom looks contexts up
            cast("int", each.context_id): each for each in contexts if not each.result
        }
        association._rejected_cx = [each for each in contexts if each.result]  # noqa: SLF001
        if self.dul.socket and self.dul.socket.socket:
            self.dul.socket.socket.settimeout(association.network_timeout)
        self.send_accept()
        association.is_established = True


def _proposed(context: PresentationContext) -> ProposedContext:
    return ProposedContext(
        context_id=cast("int", context.context_id),
        abstract_syntax=str(context.abstract_syntax or ""),
        transfer_syntaxes=tuple(str(each) for each in context.transfer_syntax),
    )


def _answered(negotiated: NegotiatedContext) -> PresentationContext:
    context = PresentationContext()
    context.context_id = negotiated.context_id
    context.result = negotiated.result
    context.transfer_syntax = [negotiated.transfer_syntax or _INSIGNIFICANT]
    if negotiated.result is ContextResult.ACCEPTED:
        context.abstract_syntax = negotiated.abstract_syntax
    return context


def _store_request(message: C_STORE, context: PresentationContext) -> StoreRequest:
    data_set = message.DataSet
    return StoreRequest(
        affected_sop_class_uid=str(message.AffectedSOPClassUID or ""),
        affected_sop_instance_uid=str(message.AffectedSOPInstanceUID or ""),
        abstract_syntax=str(context.abstract_syntax),
        transfer_syntax_uid=str(context.transfer_syntax[0]),
        data_set=data_set.getbuffer() if data_set else None,
    )
