"""The door of one worker: lets peers in by policy, limits and room, or says why not."""

import math
import time
import uuid

import structlog

from contract.ae_titles import parse_ae_title
from contract.errors import InvalidAeTitle
from contract.metadata import Sender
from store_scp.board import Panel, SeatsTaken
from store_scp.certificates import WARN_DAYS
from store_scp.errors import AssociationRejected
from store_scp.metrics import Counter, Gauge
from store_scp.openings import Ports, refused_as_dicom
from store_scp.policy import (
    AccessPolicy,
    AeEntry,
    Certificate,
    Peer,
    application_context_not_supported,
    congested,
    limit_exceeded,
    protocol_version_not_supported,
    shutting_down,
)
from store_scp.proposals import proposed_names
from store_scp.session import Session
from store_scp.tls import certificate_members
from store_scp.transfer import Depot
from store_scp.upper_layer import AssociateRequest
from store_scp.upper_layer.pdus import APPLICATION_CONTEXT

_log = structlog.get_logger()

_PERMANENT = 1
_DAY_SECONDS = 86_400


class Reception:
    """Admits associations; ``policy`` may be replaced at any time, for those that come after."""

    def __init__(
        self, policy: AccessPolicy, limit: int, depot: Depot, panel: Panel, ports: Ports
    ) -> None:
        """``limit`` associations at once, over all workers."""
        self.policy = policy
        self.closed = False
        self._limit = limit
        self._depot = depot
        self._panel = panel
        self._ports = ports

    def turn_away(self, address: str, first: bytes, why: str) -> None:
        """Tell of a connection that ends before its association: what it began with, and why."""
        self._panel.add(Counter.CONNECTIONS_REFUSED)
        refusal = refused_as_dicom(first, why, self._ports)
        _log.warning("connection_refused", peer=address, **refusal._asdict())

    def enter(
        self, request: AssociateRequest, address: str, certificate: Certificate | None
    ) -> Session:
        """A new association's session; raises AssociationRejected. ``leave`` must follow."""
        association_id = uuid.uuid4().hex
        try:
            return self._admit(request, address, certificate, association_id)
        except AssociationRejected as rejected:
            self._panel.add(
                Counter.ASSOCIATIONS_REJECTED_PERMANENT
                if rejected.result == _PERMANENT
                else Counter.ASSOCIATIONS_REJECTED_TRANSIENT
            )
            where = {"entry": rejected.entry, "key": rejected.key}
            _log.warning(
                "association",
                association_id=association_id,
                calling_ae=_loggable(request.calling_ae_title),
                called_ae=_loggable(request.called_ae_title),
                peer=address,
                outcome="rejected",
                why=str(rejected),
                needs=rejected.needs,
                **{name: text for name, text in where.items() if text is not None},
                proposed=proposed_names(request.contexts),
                **certificate_members(certificate),
            )
            raise

    def leave(self, session: Session, outcome: str, counter: Counter, why: str | None) -> None:
        """The association is over."""
        self._panel.leave_seat(session.seat)
        self._panel.add(counter)
        self._panel.adjust(Gauge.ASSOCIATIONS_ESTABLISHED, -1)
        session.end(outcome, why)

    def _admit(
        self,
        request: AssociateRequest,
        address: str,
        certificate: Certificate | None,
        association_id: str,
    ) -> Session:
        # PS3.8 9.3.2: of the version only bit 0 is tested.
        if not request.protocol_version & 1:
            raise protocol_version_not_supported()
        if request.application_context != APPLICATION_CONTEXT:
            raise application_context_not_supported()
        peer = Peer(request.calling_ae_title, request.called_ae_title, address, certificate)
        admitted = self.policy.admit(peer)
        if self.closed:
            raise shutting_down()
        if self._depot.spool.congested:
            raise congested()
        try:
            seat = self._panel.take_seat(
                admitted.entry.name, self._limit, admitted.entry.max_associations
            )
        except SeatsTaken as taken:
            raise self._limited(taken, admitted.entry) from None
        sender = Sender(
            admitted.calling_ae_title, admitted.called_ae_title, address, association_id
        )
        self._panel.add(Counter.ASSOCIATIONS_ACCEPTED)
        self._panel.adjust(Gauge.ASSOCIATIONS_ESTABLISHED, 1)
        if certificate is not None:
            _warn_of_expiry(certificate, sender)
        return Session(sender, admitted.entry, self._depot, self._panel, seat, certificate)

    def _limited(self, taken: SeatsTaken, entry: AeEntry) -> AssociationRejected:
        if taken.scope == "group" and entry.max_associations is not None:
            return limit_exceeded(entry.max_associations, entry)
        return limit_exceeded(self._limit)


def _warn_of_expiry(certificate: Certificate, sender: Sender) -> None:
    """One line for each association, until somebody renews the peer's certificate."""
    left = certificate.expires - time.time()
    if left < WARN_DAYS * _DAY_SECONDS:
        _log.warning(
            "peer_certificate_expires",
            association_id=sender.association_id,
            calling_ae=sender.calling_ae_title,
            peer=sender.peer_address,
            days=math.floor(left / _DAY_SECONDS),
            **certificate_members(certificate),
        )


def _loggable(title: str) -> str | None:
    try:
        return parse_ae_title(title)
    except InvalidAeTitle:
        return None
