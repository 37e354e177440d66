"""moto in this process: the product's clients are made once and kept, its services start empty.

Making a client takes as long as a hundred calls do, so one set serves every test of the process.
A client that is kept cannot leave moto: it is made while moto answers, and is given to the product
only while moto answers.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.httpsession import URLLib3Session
from chalicelib import aws, wiring
from chalicelib.stores.schema import table_definitions
from moto import mock_aws
from moto.core.base_backend import BackendDict
from moto.core.config import DefaultConfig
from moto.core.models import MockAWS

from local import moto_gaps
from local.healthimaging import install

REGION, ACCOUNT = "us-east-1", "123456789012"
# What a test before, or the person at the keyboard, may have pointed at another AWS.
_ELSEWHERE = ("AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_REGION", "AWS_SESSION_TOKEN")

Listener = Callable[[str], None]
ParametersListener = Callable[[str, Mapping[str, Any]], None]
_make_client = aws._client
_send = URLLib3Session.send
_clients: dict[tuple[str, int], Any] = {}
_before: list[Listener] = []
_after: list[Listener] = []
_parameters: list[ParametersListener] = []


@contextmanager
def running(config: DefaultConfig | None = None) -> Iterator[None]:
    """moto answers, and ``chalicelib.aws`` hands out the clients of this process."""
    assert not MockAWS._mocks_active, "another test has left its moto behind"
    install()
    moto_gaps.mend()
    with pytest.MonkeyPatch.context() as patch:
        for name in _ELSEWHERE:
            patch.delenv(name, raising=False)
        patch.setenv("AWS_DEFAULT_REGION", REGION)
        with mock_aws(config=config):
            patch.setattr(aws, "_client", _kept)
            patch.setattr(URLLib3Session, "send", _within_this_machine)
            wiring.forget()
            try:
                yield
            finally:
                wiring.forget()
    assert not MockAWS._mocks_active


def _within_this_machine(session: URLLib3Session, request: Any) -> Any:
    """A request that moto does not answer goes to a server of the test's own, or fails."""
    host = urlsplit(request.url).hostname
    assert host == "127.0.0.1", f"a call has left moto, for {host}"
    return _send(session, request)


def _kept(service: str, attempts: int = aws._ATTEMPTS) -> Any:
    """As ``aws._client`` makes it, and the same one for the same arguments."""
    if (service, attempts) not in _clients:
        client = _make_client(service, attempts)
        client.meta.events.register("before-call", _tell_before)
        client.meta.events.register("after-call", _tell_after)
        client.meta.events.register("before-parameter-build", _tell_parameters)
        _clients[service, attempts] = client
    return _clients[service, attempts]


def _tell_before(model: Any, **_: object) -> None:
    for listener in _before:
        listener(_named(model))


def _tell_after(model: Any, **_: object) -> None:
    for listener in _after:
        listener(_named(model))


def _tell_parameters(params: Mapping[str, Any], model: Any, **_: object) -> None:
    for listener in _parameters:
        listener(_named(model), params)


def _named(model: Any) -> str:
    return f"{model.service_model.service_name}:{model.name}"


@contextmanager
def listening(before: Listener, after: Listener) -> Iterator[None]:
    """Tell of each call of a kept client before it is sent, and once it is answered."""
    _before.append(before)
    _after.append(after)
    try:
        yield
    finally:
        _before.remove(before)
        _after.remove(after)


@contextmanager
def reading_parameters(listener: ParametersListener) -> Iterator[None]:
    """Tell what each call of a kept client is made with."""
    _parameters.append(listener)
    try:
        yield
    finally:
        _parameters.remove(listener)


def reset() -> None:
    """Empty every service, by moto's own reset; settings are read again."""
    BackendDict.reset()
    wiring.settings.cache_clear()
    wiring.stores.cache_clear()
    assert_empty()


def assert_empty() -> None:
    """No service of moto has so much as a backend that could hold something."""
    backends: list[Any] = BackendDict._instances  # type: ignore[misc]
    left = [each.service_name for each in backends]
    assert left == [], f"{left} still hold what a test before has made"


def create(*buckets: str) -> None:
    """The tables, and buckets."""
    for definition in table_definitions():
        aws.dynamodb().create_table(**definition)
    for bucket in buckets:
        aws.s3().create_bucket(Bucket=bucket)
