"""AWS credentials from botocore's providers, which may ask the network: never on the event loop."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import botocore.exceptions as aws
from botocore.credentials import Credentials, ReadOnlyCredentials, RefreshableCredentials
from botocore.session import Session

from store_scp.dimse.status import Status
from store_scp.s3.errors import AttemptFailed, Remedy

# botocore's own numbers: from 15 minutes before the end new credentials are fetched while the old
# serve; from 10 minutes on they are waited for.
_MANDATORY_SECONDS = 10 * 60

# Between two loads for the same need, so that a provider that is down is not asked per object.
_PAUSE = 1.0

# What an operator has to write differently; everything else may pass.
_MISCONFIGURED = (
    aws.ConfigNotFound,
    aws.ConfigParseError,
    aws.InvalidConfigError,
    aws.PartialCredentialsError,
    aws.ProfileNotFound,
    aws.UnknownCredentialError,
)


def load() -> Credentials | None:
    """The credentials botocore finds now: a new session, as the old one would not look again."""
    return Session().get_credentials()


def _system_time() -> datetime:
    return datetime.now(UTC)


def expire_by(now: Callable[[], datetime], credentials: Credentials | None) -> None:
    """Let the credentials expire by this clock, and not by the system's.

    Where that is hours ahead, botocore calls credentials that were just fetched expired, and uses
    none; where it is behind, those that are expired good.
    """
    if isinstance(credentials, RefreshableCredentials):
        # What its constructor calls time_fetcher; the providers pass none.
        credentials._time_fetcher = now  # type: ignore[attr-defined]  # noqa: SLF001


class CredentialSource:
    """The credentials to sign with; one load at a time serves everyone who waits for it."""

    def __init__(
        self,
        loads: Callable[[], Credentials | None] = load,
        clock: Callable[[], float] = time.monotonic,
        expiry_time: Callable[[], datetime] = _system_time,
    ) -> None:
        """``expiry_time`` is the clock that credentials expire by."""
        self._expiry_time = expiry_time
        self._loads = loads
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, "credentials")
        self._credentials: Credentials | None = None
        self._frozen: ReadOnlyCredentials | None = None
        self._rejected: ReadOnlyCredentials | None = None
        self._failed: AttemptFailed | None = None
        self._loading: asyncio.Future[None] | None = None
        self._next_refresh = 0.0
        self._next_reload = 0.0

    async def current(self) -> ReadOnlyCredentials:
        """What to sign with now; raises AttemptFailed."""
        needed = self._is_needed()
        loading = self._load_if_due()
        if loading is not None and needed:
            # Not awaited itself: that would cancel it for all when one who waits is cancelled.
            await asyncio.wait((loading,))
        if self._frozen is None:
            raise self._failed or AttemptFailed("NoCredentials")
        return self._frozen

    def reject(self, rejected: ReadOnlyCredentials) -> None:
        """S3 does not take these: the provider is asked anew, unless it was meanwhile."""
        self._rejected = rejected

    def close(self) -> None:
        """Ends the thread as soon as it is free."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _load_if_due(self) -> "asyncio.Future[None] | None":
        """The load that is under way, perhaps from now on; None if none is."""
        if self._loading is not None:
            return self._loading
        if self._is_rejected() and self._clock() >= self._next_reload:
            self._next_reload = self._clock() + _PAUSE
            self._start(self._reload)
        elif self._expires_within(None) and self._clock() >= self._next_refresh:
            self._start(self._refresh)
        return self._loading

    def _is_needed(self) -> bool:
        return self._is_rejected() or self._expires_within(_MANDATORY_SECONDS)

    def _is_rejected(self) -> bool:
        return self._frozen is not None and self._frozen is self._rejected

    def _expires_within(self, seconds: int | None) -> bool:
        """Whether there are none, or none for so long; None is botocore's advice."""
        if self._frozen is None:
            return True
        credentials = self._credentials
        if not isinstance(credentials, RefreshableCredentials):
            return False
        return credentials.refresh_needed(seconds)

    def _start(self, work: Callable[[], None]) -> None:
        self._loading = asyncio.get_running_loop().run_in_executor(self._thread, work)
        self._loading.add_done_callback(self._loaded)

    def _loaded(self, loading: "asyncio.Future[None]") -> None:
        self._loading = None
        self._next_refresh = self._clock() + _PAUSE
        if not loading.cancelled():
            error = loading.exception()
            self._failed = None if error is None else _failure(error)

    # In the thread; the event loop reads what these leave only after they are done.

    def _refresh(self) -> None:
        if self._credentials is None:
            self._reload()
        else:
            self._frozen = self._credentials.get_frozen_credentials()

    def _reload(self) -> None:
        credentials = self._loads()
        if credentials is None:
            raise aws.NoCredentialsError
        expire_by(self._expiry_time, credentials)
        frozen = credentials.get_frozen_credentials()
        self._credentials, self._frozen = credentials, frozen


def _failure(error: BaseException) -> AttemptFailed:
    if isinstance(error, aws.NoCredentialsError):
        return AttemptFailed("NoCredentials")
    if isinstance(error, _MISCONFIGURED):
        return AttemptFailed(type(error).__name__, Status.PROCESSING_FAILURE, Remedy.GIVE_UP)
    return AttemptFailed(type(error).__name__)
