"""When the receiver's own certificate and those of the client CA expire, and who is told in time.

The own file may hold a chain, of which the first certificate is the receiver's. Each certificate of
the client CA's file may be the one that peers' certificates end at.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog

from store_scp.clocks import system_clock
from store_scp.files import Read
from store_scp.settings import Settings
from store_scp.tls import expiries

_DAY = 86_400.0
# A month is enough to have one renewed by hand; whoever renews by machine has done so before.
WARN_DAYS = 30

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Expiry:
    """A certificate by its setting, its file and its number there, from 1; and when it expires."""

    setting: str
    file: Path
    number: int
    at: datetime

    def days_left(self, now: datetime) -> int:
        """Whole days; below 0 once it has expired."""
        return math.floor((self.at - now).total_seconds() / _DAY)


def expiries_of(settings: Settings, read: Read) -> tuple[Expiry, ...]:
    """Of the files in force, which ``read`` gives; none without TLS."""
    return tuple(_found(settings, read)) if settings.tls_port is not None else ()


def _found(settings: Settings, read: Read) -> Iterator[Expiry]:
    if (own := settings.tls_certificate) is not None:
        for number, at in expiries(read(own))[:1]:
            yield Expiry("SCP_TLS_CERTIFICATE", own, number, at)
    if (client_ca := settings.tls_client_ca) is not None:
        for number, at in expiries(read(client_ca)):
            yield Expiry("SCP_TLS_CLIENT_CA", client_ca, number, at)


class CertificateWatch:
    """Tells of what expires: when certificates are taken, and once a day while there is need."""

    def __init__(self, first_expiry: Callable[[float | None], None]) -> None:
        """``first_expiry`` is called with seconds since 1970, or None, for the metric."""
        self._first_expiry = first_expiry
        self._expiries: Sequence[Expiry] = ()
        self._tell_at = math.inf

    def take(self, expiries: Sequence[Expiry]) -> None:
        """These are in force from now on."""
        self._expiries = expiries
        first = min((each.at for each in expiries), default=None)
        self._first_expiry(None if first is None else first.timestamp())
        self._tell()

    def look(self) -> None:
        """Tell, if a day has passed."""
        if time.monotonic() >= self._tell_at:
            self._tell()

    def _tell(self) -> None:
        self._tell_at = time.monotonic() + _DAY
        # The machine's time, right or wrong: TLS goes by it, too.
        now = datetime.fromtimestamp(system_clock(), UTC)
        for each in self._expiries:
            days = each.days_left(now)
            members = {"setting": each.setting, "file": str(each.file), "certificate": each.number}
            if days < 0:
                _log.error("certificate_expired", **members, expired_at=each.at.isoformat())
            elif days < WARN_DAYS:
                _log.warning("certificate_expires", **members, days_left=days)
