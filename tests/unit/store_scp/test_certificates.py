"""When somebody is told of a certificate that expires."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from store_scp import certificates
from store_scp.certificates import CertificateWatch, Expiry
from structlog.testing import capture_logs

NOW = datetime(2026, 12, 2, tzinfo=UTC)
DAY = 86_400.0


class Clock:
    """Both clocks that the watch reads."""

    steady = 1_000.0

    def monotonic(self) -> float:
        return self.steady

    def system(self) -> float:
        return NOW.timestamp() + self.steady - 1_000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    moved = Clock()
    monkeypatch.setattr(certificates, "time", moved)
    monkeypatch.setattr(certificates, "system_clock", moved.system)
    return moved


def expiring(days: float, setting: str = "SCP_TLS_CERTIFICATE", number: int = 1) -> Expiry:
    return Expiry(setting, Path("file.pem"), number, NOW + timedelta(days=days))


def told(*expiries: Expiry) -> list[tuple[object, ...]]:
    with capture_logs() as lines:
        CertificateWatch(lambda _: None).take(expiries)
    names = ("log_level", "event", "setting", "certificate", "days_left")
    return [tuple(each.get(name) for name in names) for each in lines]


@pytest.mark.usefixtures("clock")
def test_a_month_before_its_end_a_certificate_is_a_warning_and_then_an_error() -> None:
    setting = "SCP_TLS_CERTIFICATE"
    assert told(expiring(30.0)) == []
    assert told(expiring(29.9)) == [("warning", "certificate_expires", setting, 1, 29)]
    assert told(expiring(0.1)) == [("warning", "certificate_expires", setting, 1, 0)]
    assert told(expiring(-0.1)) == [("error", "certificate_expired", setting, 1, None)]


@pytest.mark.usefixtures("clock")
def test_each_certificate_of_the_client_ca_is_told_of_by_its_number() -> None:
    ca = [expiring(days, "SCP_TLS_CLIENT_CA", n) for n, days in enumerate((400, 3, -3), 1)]
    assert told(expiring(200), *ca) == [
        ("warning", "certificate_expires", "SCP_TLS_CLIENT_CA", 2, 3),
        ("error", "certificate_expired", "SCP_TLS_CLIENT_CA", 3, None),
    ]


def test_it_is_told_once_a_day_from_the_day_on_that_it_is_needed(clock: Clock) -> None:
    watch = CertificateWatch(lambda _: None)
    days = []
    with capture_logs() as lines:
        watch.take([expiring(31.5)])
        for _ in range(4 * 24):
            clock.steady += DAY / 24
            watch.look()
        days = [each["days_left"] for each in lines]
    assert days == [29, 28, 27]


@pytest.mark.usefixtures("clock")
def test_the_metric_is_of_the_first_to_expire_and_of_what_is_in_force() -> None:
    firsts: list[float | None] = []
    watch = CertificateWatch(firsts.append)
    watch.take([expiring(200), expiring(100, "SCP_TLS_CLIENT_CA")])
    watch.take([expiring(300)])
    watch.take([])
    now = NOW.timestamp()
    assert firsts == [now + 100 * DAY, now + 300 * DAY, None]


def test_without_certificates_nothing_is_ever_told(clock: Clock) -> None:
    watch = CertificateWatch(lambda _: None)
    with capture_logs() as lines:
        watch.look()
        clock.steady += 10 * DAY
        watch.look()
    assert lines == []
