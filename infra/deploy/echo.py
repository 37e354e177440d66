"""The last step: does the receiver answer a C-ECHO from where this runs?"""

import socket
from dataclasses import dataclass
from enum import StrEnum

from pynetdicom import AE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

_SECONDS = 10.0
_CALLING_AE_TITLE = "DEPLOY"
_SUCCESS = 0x0000


class Answer(StrEnum):
    """What came of it."""

    SUCCESS = "answered"
    REFUSED = "was reached and refused the association or the C-ECHO"
    UNREACHABLE = "could not be reached from here"


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where it is: the connection settings of a modality. A port is 0 if there is none."""

    host: str
    ae_title: str
    port: int = 0
    tls_port: int = 0

    def settings(self) -> str:
        """For the modality's configuration page."""
        plain = [f"Port {self.port}"] if self.port else []
        tls = [f"Port {self.tls_port} (TLS)"] if self.tls_port else []
        called = f"Called AE title {self.ae_title}"
        return "\n".join([f"Host {self.host}", *plain, *tls, called])


def echo(receiver: Receiver, seconds: float = _SECONDS) -> Answer:
    """One C-ECHO on the plain port, in bounded time."""
    try:
        socket.create_connection((receiver.host, receiver.port), seconds).close()
    except OSError:  # no such name, no way there, nobody there
        return Answer.UNREACHABLE
    entity = AE(ae_title=_CALLING_AE_TITLE)
    entity.add_requested_context(Verification)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = seconds
    entity.connection_timeout = seconds
    association = entity.associate(receiver.host, receiver.port, ae_title=receiver.ae_title)
    if not association.is_established:
        return Answer.REFUSED
    status = association.send_c_echo()
    association.release()
    return Answer.SUCCESS if status.get("Status") == _SUCCESS else Answer.REFUSED
