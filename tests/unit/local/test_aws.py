"""What stands in for AWS's endpoint."""

from collections.abc import Iterable

import pytest
import urllib3
from moto import backends
from moto.moto_server.werkzeug_app import create_backend_app

from local.aws import AwsServer, Dispatcher


def test_moto_looks_for_a_hosts_service_once(monkeypatch: pytest.MonkeyPatch) -> None:
    find, asked = backends.list_of_moto_modules, []

    def counted() -> Iterable[str]:
        asked.append("")
        return find()

    monkeypatch.setattr(backends, "list_of_moto_modules", counted)
    dispatcher = Dispatcher(create_backend_app)
    hosts = ["dynamodb", "s3.us-east-1.amazonaws.com", None] * 3
    found = [dispatcher.get_backend_for_host(host) for host in hosts]
    assert found == ["dynamodb", "s3", None] * 3
    assert len(asked) == 2


def test_nobody_listens_after_the_server_has_stopped() -> None:
    server = AwsServer()
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}/"
    assert b"ListAllMyBucketsResult" in urllib3.request("GET", url).data
    assert host == "127.0.0.1"
    server.stop()
    with pytest.raises(urllib3.exceptions.MaxRetryError):
        urllib3.request("GET", url, retries=0)
