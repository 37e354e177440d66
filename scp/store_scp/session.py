"""An association as the receiver sees it, whatever carries its bytes: admitted, served, counted.

:class:`Reception` lets peers in and knows who is here; a :class:`Session` is one of them.
"""

import threading
import time
import uuid
from collections.abc import Iterable

import structlog

from contract.ae_titles import parse_ae_title
from contract.errors import InvalidAeTitle
from contract.metadata import Sender
from contract.uids import uid_digest
from store_scp.dimse.services import StoreRequest, accept_store
from store_scp.dimse.status import Status
from store_scp.errors import AssociationRejected, StoreRefused
from store_scp.logs import describe
from store_scp.negotiation import NegotiatedContext, ProposedContext, negotiate
from store_scp.policy import PeerPolicy, admit, limit_exceeded, shutting_down
from store_scp.settings import Settings
from store_scp.sinks import Sink

_log = structlog.get_logger()


class Session:
    """One admitted association. Used by that association's thread only."""

    def __init__(self, sender: Sender, sink: Sink, settings: Settings) -> None:
        self.sender = sender
        self._sink = sink
        self._supported = frozenset(settings.supported_sop_class_uids)
        self._max_bytes = settings.max_instance_bytes
        self._began = time.monotonic()
        self._stored = 0
        self._refused = 0
        self._bytes = 0

    def negotiate(self, proposed: Iterable[ProposedContext]) -> tuple[NegotiatedContext, ...]:
        """Answer the proposed presentation contexts."""
        return negotiate(proposed, self._supported)

    def store(self, request: StoreRequest) -> Status:
        """Store one instance. Whatever goes wrong, there is a status to answer with."""
        try:
            instance = accept_store(request, self.sender, self._max_bytes)
            self._sink.store(instance)
        except StoreRefused as refused:
            return self._refuse(request, refused.status, refused.detail)
        except Exception as error:  # noqa: BLE001 - the peer is owed an answer, and never success
            return self._refuse(request, Status.PROCESSING_FAILURE, describe(error))
        self._stored += 1
        self._bytes += instance.size
        return Status.SUCCESS

    def end(self, outcome: str) -> None:
        """The association is over: one line says how it went."""
        self._sink.association_ended(self.sender.association_id)
        _log.info(
            "association",
            association_id=self.sender.association_id,
            calling_ae=self.sender.calling_ae_title,
            called_ae=self.sender.called_ae_title,
            peer=self.sender.peer_address,
            stored=self._stored,
            refused=self._refused,
            bytes=self._bytes,
            seconds=round(time.monotonic() - self._began, 3),
            outcome=outcome,
        )

    def _refuse(self, request: StoreRequest, status: Status, why: str) -> Status:
        self._refused += 1
        _log.warning(
            "store_refused",
            association_id=self.sender.association_id,
            sop_instance=uid_digest(request.affected_sop_instance_uid),
            status=str(status),
            condition=status.comment,
            why=why,
        )
        return status


class Reception:
    """The door: admits associations up to the limit, and at the end waits until all have left."""

    def __init__(self, settings: Settings, sink: Sink) -> None:
        self._settings = settings
        self._sink = sink
        self._policy = PeerPolicy(
            ae_title=settings.ae_title,
            require_called=settings.require_called_ae_title,
            calling=frozenset(settings.require_calling_ae_title),
        )
        self._sessions: set[Session] = set()
        self._closed = False
        self._changed = threading.Condition()

    def enter(self, calling: str, called: str, peer_address: str) -> Session:
        """A new association's session; raises AssociationRejected. ``leave`` must follow."""
        association_id = uuid.uuid4().hex
        try:
            peer = admit(self._policy, calling, called)
            sender = Sender(
                peer.calling_ae_title, peer.called_ae_title, peer_address, association_id
            )
            return self._seat(Session(sender, self._sink, self._settings))
        except AssociationRejected as rejected:
            _log.warning(
                "association",
                association_id=association_id,
                calling_ae=_loggable(calling),
                called_ae=_loggable(called),
                peer=peer_address,
                outcome="rejected",
                why=str(rejected),
            )
            raise

    def leave(self, session: Session, outcome: str) -> None:
        """The association is over."""
        session.end(outcome)
        with self._changed:
            self._sessions.discard(session)
            self._changed.notify_all()

    def close(self) -> None:
        """Let nobody in any more."""
        with self._changed:
            self._closed = True

    def wait_until_empty(self, seconds: float) -> bool:
        """Whether every association has left within so many seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._sessions, seconds)

    def _seat(self, session: Session) -> Session:
        with self._changed:
            if self._closed:
                raise shutting_down()
            if len(self._sessions) >= self._settings.maximum_associations:
                raise limit_exceeded()
            self._sessions.add(session)
        return session


def _loggable(title: str) -> str | None:
    try:
        return parse_ae_title(title)
    except InvalidAeTitle:
        return None
