"""The listening socket and its associations, on pynetdicom's threads; also the way they end."""

import socket
import threading
import time
from socketserver import BaseServer
from typing import Any, cast

import structlog
from pynetdicom.ae import ApplicationEntity
from pynetdicom.transport import (
    AddressInformation,
    AssociationSocket,
    RequestHandler,
    ThreadedAssociationServer,
)

from store_scp.association import StoreAssociation, prepare_libraries
from store_scp.errors import CannotStart
from store_scp.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from store_scp.session import Reception
from store_scp.settings import Settings
from store_scp.sinks import Sink

# How long an aborted association may take to say so before its socket is closed under it.
_ABORT_SECONDS = 2.0
_POLL_SECONDS = 0.1

_log = structlog.get_logger()


class StoreServer:
    """A Store SCP that listens from the moment it is made; raises CannotStart if it cannot."""

    def __init__(self, settings: Settings, sink: Sink) -> None:
        prepare_libraries()
        self._reception = Reception(settings, sink)
        try:
            self._listener = _Listener(settings, self._reception)
        except OSError as error:
            where = f"{settings.bind_address}:{settings.port}"
            raise CannotStart(f"cannot listen on {where}: {error.strerror}") from None
        self._thread = threading.Thread(
            target=self._listener.serve_forever, args=(_POLL_SECONDS,), name="listener", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """The port in use, also where the settings left the choice to the system."""
        return self._listener.server_address[1]

    def stop(self, drain_seconds: float) -> None:
        """Stop listening, let open associations finish until the deadline, abort the rest."""
        self._reception.close()
        self._listener.shutdown()
        if not self._reception.wait_until_empty(drain_seconds):
            self._abort(cast("list[StoreAssociation]", self._listener.active_associations))

    def _abort(self, associations: list[StoreAssociation]) -> None:
        for each in associations:
            each.abort(block=False)
        deadline = time.monotonic() + _ABORT_SECONDS
        while any(each.is_connected for each in associations) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        for each in associations:
            each.hang_up()
        self._reception.wait_until_empty(_ABORT_SECONDS)


class _Listener(ThreadedAssociationServer):
    """Accepts connections; every one becomes a StoreAssociation in a thread of its own."""

    # Scanners connect in bursts when they have been offline; pynetdicom's 5 would refuse some.
    request_queue_size = 128
    daemon_threads = True

    def __init__(self, settings: Settings, reception: Reception) -> None:
        self.settings = settings
        self.reception = reception
        address = (settings.bind_address, settings.port)
        super().__init__(
            _entity(settings), address, settings.ae_title, [], request_handler=_Handler
        )
        # pynetdicom collects garbage every so many polls, and expects one each half second.
        self._gc = [0, 299]

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """One connection could not be served; the others are."""
        _log.warning("connection_failed", peer=client_address[0])

    def shutdown(self) -> None:
        """Stop accepting, and close the listening socket only."""
        BaseServer.shutdown(self)
        self.server_close()


class _Handler(RequestHandler):
    def _create_association(self) -> StoreAssociation:
        listener = cast("_Listener", self.server)
        connection = cast("socket.socket", self.request)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # pynetdicom would wait for the rest of a half-sent PDU for ever. Once the association is
        # accepted, the network timeout counts instead.
        connection.settimeout(listener.settings.artim_timeout)
        association = StoreAssociation(self.ae, listener.reception)
        association._server = listener  # noqa: SLF001 - how pynetdicom finds its associations
        association.name = f"AcceptorThread@{self.remote.address}:{self.remote.port}"
        association.set_socket(AssociationSocket(association, client_socket=connection))
        acceptor = association.acceptor
        acceptor.maximum_length = self.ae.maximum_pdu_size
        acceptor.ae_title = self.ae.ae_title
        acceptor.address_info = self.local
        acceptor.implementation_class_uid = self.ae.implementation_class_uid
        acceptor.implementation_version_name = self.ae.implementation_version_name
        association.requestor.address_info = AddressInformation.from_tuple(self.client_address)
        return association


def _entity(settings: Settings) -> ApplicationEntity:
    entity = ApplicationEntity(settings.ae_title)
    entity.acse_timeout = settings.artim_timeout
    entity.dimse_timeout = settings.dimse_timeout
    entity.network_timeout = settings.network_timeout
    entity.maximum_pdu_size = settings.maximum_pdu_size
    entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    return entity
