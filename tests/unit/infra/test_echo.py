import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from infra.deploy import report
from infra.deploy.echo import Answer, Receiver, echo

LOOPBACK = "127.0.0.1"


@contextmanager
def receiver(ae_title: str) -> Iterator[int]:
    """A verification SCP that wants to be called by its name."""
    entity = AE(ae_title=ae_title)
    entity.add_supported_context(Verification)
    entity.require_called_aet = True
    server = entity.start_server((LOOPBACK, 0), block=False)
    assert server is not None
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def test_a_receiver_answers_or_refuses() -> None:
    with receiver("STORESCP") as port:
        assert echo(Receiver(LOOPBACK, "STORESCP", port)) is Answer.SUCCESS
        assert echo(Receiver(LOOPBACK, "OTHER", port)) is Answer.REFUSED


def test_where_nobody_is_or_no_name_resolves_it_is_not_reached() -> None:
    assert echo(Receiver(LOOPBACK, "STORESCP", free_port())) is Answer.UNREACHABLE
    assert echo(Receiver("nowhere.invalid", "STORESCP", 104)) is Answer.UNREACHABLE


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer.SUCCESS, "C-ECHO: the receiver answers"),
        (Answer.REFUSED, "refused the association or the C-ECHO"),
        (Answer.UNREACHABLE, "echoscu -aec STORESCP lb 11112"),
        (None, "echoscu +tls KEY CERTIFICATE +cf CA -aec STORESCP lb 2762"),
    ],
)
def test_the_verdict_says_how_to_try_from_where_it_counts(answer: Answer | None, said: str) -> None:
    assert said in report.verdict(Receiver("lb", "STORESCP", 11112, 2762), answer)


def test_the_settings_name_each_port_that_is_open() -> None:
    assert Receiver("lb", "S", 104).settings() == "Host lb\nPort 104\nCalled AE title S"
    assert "Port 2762 (TLS)" in Receiver("lb", "S", 0, 2762).settings()
    assert "Port 0" not in Receiver("lb", "S", 0, 2762).settings()
