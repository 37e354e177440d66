"""The receiver's errors; those that reach a peer carry what it is answered with.

::

    ProductError
    +-- ReceiverError
        +-- SettingsInvalid        the environment cannot be used: exit code 2
        +-- CannotStart            a port or a directory cannot be used: exit code 1
        +-- AssociationRejected    A-ASSOCIATE-RJ result, source, reason (PS3.8 9.3.4)
        +-- StoreRefused           C-STORE response status (PS3.4 B.2.3)

No message repeats text that a peer sent.
"""

from contract.errors import ProductError
from store_scp.dimse.status import Status


class ReceiverError(ProductError):
    """Anything the receiver raises on purpose."""


class SettingsInvalid(ReceiverError):
    """The environment breaks a rule; the message has one line for each variable."""


class CannotStart(ReceiverError):
    """The receiver cannot listen or cannot open its sink."""


class AssociationRejected(ReceiverError):
    """An association is answered with A-ASSOCIATE-RJ."""

    def __init__(self, result: int, source: int, reason: int, why: str) -> None:
        super().__init__(why)
        self.result = result
        self.source = source
        self.reason = reason


class StoreRefused(ReceiverError):
    """An instance is not stored; ``detail`` is for the log, in our own or the sink's words."""

    def __init__(self, status: Status, detail: str = "") -> None:
        super().__init__(f"{status.comment} ({detail})" if detail else status.comment)
        self.status = status
        self.detail = detail
