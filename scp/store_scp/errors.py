"""The receiver's errors; those that reach a peer carry what it is answered with.

::

    ProductError
    +-- ReceiverError
        +-- SettingsInvalid        the environment cannot be used: exit code 2
        |   +-- PolicyInvalid      nor can the policy file: exit code 2, or the old policy stays
        +-- CannotStart            a port or a directory cannot be used: exit code 1
        +-- ProxyHeaderInvalid     a connection does not begin with a PROXY v2 header: closed
        +-- AssociationRejected    A-ASSOCIATE-RJ result, source, reason (PS3.8 9.3.4)
        +-- StoreRefused           C-STORE response status (PS3.4 B.2.3)
        +-- InvalidPdu             A-ABORT source 2 and its reason: upper_layer.pdus
        +-- CommandInvalid         A-ABORT source 2: dimse.commands
        +-- IllegalTransition      a mistake of ours, told by upper_layer.states
        +-- SeatsTaken             becomes AssociationRejected: board
        +-- AlreadyExists          S3 has the object already: s3.errors
        +-- AttemptFailed          one request to S3; tried again, or StoreRefused: s3.errors

No message repeats text that a peer sent.
"""

from contract.errors import ProductError
from store_scp.dimse.status import Status


class ReceiverError(ProductError):
    """Anything the receiver raises on purpose."""


class SettingsInvalid(ReceiverError):
    """The environment breaks a rule; the message has one line for each variable."""


class PolicyInvalid(SettingsInvalid):
    """The policy file breaks a rule; the message has one line for each key."""


class CannotStart(ReceiverError):
    """The receiver cannot listen or cannot open its sink."""


class ProxyHeaderInvalid(ReceiverError):
    """The bytes that begin a connection are no PROXY protocol v2 header."""


class AssociationRejected(ReceiverError):
    """An association is answered with A-ASSOCIATE-RJ.

    ``needs`` says what would have been accepted; ``entry`` and ``key`` are those of the policy that
    decided, where one did.
    """

    def __init__(
        self,
        result: int,
        source: int,
        reason: int,
        why: str,
        needs: str,
        *,
        entry: str | None = None,
        key: str | None = None,
    ) -> None:
        super().__init__(why)
        self.result = result
        self.source = source
        self.reason = reason
        self.needs = needs
        self.entry = entry
        self.key = key


class StoreRefused(ReceiverError):
    """An instance is not stored; ``detail`` is for the log, in our own or the sink's words."""

    def __init__(self, status: Status, detail: str = "") -> None:
        super().__init__(f"{status.comment} ({detail})" if detail else status.comment)
        self.status = status
        self.detail = detail
