"""What goes wrong at S3; only StoreRefused and AlreadyExists leave the package.

::

    ReceiverError
    +-- AlreadyExists           the key is taken (If-None-Match: *)
    +-- AttemptFailed           one attempt: what it was, and what may help
        +-- StaleConnection     S3 had closed the kept connection: nothing was tried
"""

from enum import Enum

from store_scp.dimse.status import Status
from store_scp.errors import ReceiverError, StoreRefused


class Remedy(Enum):
    """What may cure a failed attempt."""

    GIVE_UP = "nothing that we can do"
    TRY_LATER = "the same request after a pause"
    SEND_AGAIN = "the same bytes, in case they were damaged on the way"
    NEW_CREDENTIALS = "a new signature with credentials loaded anew"
    NEW_TIME = "a new signature at the time that S3 has just told"


class AlreadyExists(ReceiverError):
    """An object has that key already, perhaps from an earlier attempt of ours."""


class AttemptFailed(ReceiverError):
    """An attempt failed; ``code`` is S3's error code or a word of ours."""

    def __init__(
        self,
        code: str,
        status: Status = Status.OUT_OF_RESOURCES,
        remedy: Remedy = Remedy.TRY_LATER,
        retry_after: float = 0.0,
    ) -> None:
        super().__init__(code)
        self.code = code
        self.status = status
        self.remedy = remedy
        self.retry_after = retry_after

    def refused(self) -> StoreRefused:
        """What the peer is answered if this was the last attempt."""
        return StoreRefused(self.status, self.code)


class StaleConnection(AttemptFailed):
    """A connection that was used before is lost before any byte of an answer."""
