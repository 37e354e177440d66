"""What stands in for AWS's endpoint."""

import copy
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import urllib3
from moto import backends
from moto.dynamodb import models
from moto.dynamodb.models.table import Table
from moto.moto_server.werkzeug_app import create_backend_app

from local.aws import AwsServer, Dispatcher

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

TABLE = "rows"


@pytest.fixture
def dynamodb() -> "Iterator[DynamoDBClient]":
    """An empty table."""
    server = AwsServer()
    server.start()
    host, port = server.get_host_and_port()
    client = boto3.client(
        "dynamodb",
        endpoint_url=f"http://{host}:{port}",
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",  # noqa: S106 - moto asks for any
    )
    client.create_table(
        TableName=TABLE,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )
    yield client
    client.delete_table(TableName=TABLE)
    client.close()
    server.stop()


def test_a_refused_transaction_undoes_nothing_that_others_wrote(
    dynamodb: "DynamoDBClient", monkeypatch: pytest.MonkeyPatch
) -> None:
    copied, written = threading.Event(), threading.Event()

    def copy_slowly(value: Any) -> Any:
        found = copy.deepcopy(value)
        if isinstance(value, Table):
            copied.set()
            written.wait(0.3)
        return found

    monkeypatch.setattr(models, "copy", SimpleNamespace(deepcopy=copy_slowly))
    condition = "attribute_exists(id)"
    unknown: Any = {"Put": {"TableName": TABLE, "Item": row("1"), "ConditionExpression": condition}}

    def refused() -> None:
        with pytest.raises(dynamodb.exceptions.TransactionCanceledException):
            dynamodb.transact_write_items(TransactItems=[unknown])

    with ThreadPoolExecutor(1) as other:
        transaction = other.submit(refused)
        assert copied.wait(5)
        dynamodb.put_item(TableName=TABLE, Item=row("2"))
        written.set()
        transaction.result()
    assert dynamodb.scan(TableName=TABLE)["Items"] == [row("2")]


def row(name: str) -> Any:
    return {"id": {"S": name}}


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
