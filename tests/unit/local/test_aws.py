"""What stands in for AWS's endpoint."""

import copy
import json
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
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
def clients(monkeypatch: pytest.MonkeyPatch) -> "Iterator[list[DynamoDBClient]]":
    """Of two servers, as in ``make chaos``; moto's one empty table is behind both."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "local")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    with ExitStack() as stack:
        found = []
        for server in (AwsServer(), AwsServer()):
            server.start()
            stack.callback(server.stop)
            host, port = server.get_host_and_port()
            url = f"http://{host}:{port}"
            found.append(boto3.client("dynamodb", endpoint_url=url, region_name="us-east-1"))
            stack.callback(found[-1].close)
        found[0].create_table(
            TableName=TABLE,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        )
        stack.callback(found[0].delete_table, TableName=TABLE)
        yield found


def test_a_refused_transaction_undoes_nothing_that_others_wrote(
    clients: "list[DynamoDBClient]", monkeypatch: pytest.MonkeyPatch
) -> None:
    one, another = clients
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
        with pytest.raises(one.exceptions.TransactionCanceledException):
            one.transact_write_items(TransactItems=[unknown])

    with ThreadPoolExecutor(1) as other:
        transaction = other.submit(refused)
        assert copied.wait(5), "moto copies no table"
        another.put_item(TableName=TABLE, Item=row("2"))
        written.set()
        transaction.result()
    assert one.scan(TableName=TABLE)["Items"] == [row("2")]


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


def test_a_request_in_chunks_is_read_whole(clients: "list[DynamoDBClient]") -> None:
    url = clients[0].meta.endpoint_url
    scope = "local/20261130/us-east-1/dynamodb/aws4_request"
    headers = {
        "Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0",
        "X-Amz-Target": "DynamoDB_20120810.DescribeTable",
    }
    body = json.dumps({"TableName": TABLE}).encode()
    answer = urllib3.request("POST", url, headers=headers, body=iter([body[:5], body[5:]]))
    assert answer.json()["Table"]["TableName"] == TABLE


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
