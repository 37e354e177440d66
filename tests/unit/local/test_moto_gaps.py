"""Each gap of moto's that a request of another thread can fall into, opened on purpose."""

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from moto.s3.models import FakeKey, S3Backend
from moto.s3.utils import _VersionedKeyStore
from moto.sqs.models import Message, sqs_backends
from moto.utilities.utils import LowercaseDict

from local.aws import AwsServer, operation
from local.names import ACCOUNT_ID

BUCKET = "gaps"
# How long one thread waits for what the other cannot do while it is not its turn.
PAUSE = 0.3


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsServer]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "local")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    running = AwsServer()
    running.start()
    yield running
    running.stop()


@contextmanager
def client(server: AwsServer, service: Any) -> Iterator[Any]:
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    once = Config(retries={"total_max_attempts": 1})
    made = boto3.client(service, endpoint_url=url, region_name="us-east-1", config=once)
    yield made
    made.close()


@pytest.fixture
def s3(server: AwsServer) -> Iterator[Any]:
    with client(server, "s3") as made:
        made.create_bucket(Bucket=BUCKET)
        yield made
        for each in made.list_objects_v2(Bucket=BUCKET).get("Contents", []):
            made.delete_object(Bucket=BUCKET, Key=each["Key"])
        made.delete_bucket(Bucket=BUCKET)


def beside(slow: Callable[[], Any], begun: threading.Event, other: Callable[[], Any]) -> Any:
    """What ``other`` gives, begun in the middle of ``slow``, which must succeed."""
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(slow)
        assert begun.wait(5), "moto works otherwise by now: is the gap still there?"
        second = threads.submit(other)
        first.result()
        return second.result()


def test_an_objects_metadata_are_there_as_soon_as_it_is(
    s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else they are there in part, or it is "dictionary changed size during iteration"."""
    begun, reading, added = threading.Event(), threading.Event(), threading.Event()
    given = {f"name{number}": "x" for number in range(5)}
    set_metadata, writer = FakeKey.set_metadata, [0]

    def in_two_steps(key: FakeKey, metadata: Any, replace: bool = False) -> None:
        writer[0] = threading.get_ident()
        set_metadata(key, dict(list(metadata.items())[:2]), replace)
        begun.set()
        reading.wait(PAUSE)
        set_metadata(key, metadata)
        added.set()

    def slowly(metadata: LowercaseDict) -> Iterator[str]:
        for name in metadata.store:
            if threading.get_ident() != writer[0]:
                reading.set()
                added.wait(PAUSE)
            yield name

    with monkeypatch.context() as patch:
        patch.setattr(FakeKey, "set_metadata", in_two_steps)
        patch.setattr(LowercaseDict, "__iter__", slowly)
        found = beside(
            lambda: s3.put_object(Bucket=BUCKET, Key="a", Body=b"a", Metadata=given),
            begun,
            lambda: s3.head_object(Bucket=BUCKET, Key="a"),
        )
    assert found["Metadata"] == given


def test_a_listing_does_not_meet_an_object_that_is_being_deleted(
    s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("a", "b"):
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"x")
    begun, deleted = threading.Event(), threading.Event()
    items = _VersionedKeyStore.items

    def slowly(keys: _VersionedKeyStore) -> Iterator[Any]:
        for each in items(keys):
            yield each
            begun.set()
            deleted.wait(PAUSE)

    def delete() -> None:
        s3.delete_object(Bucket=BUCKET, Key="b")
        deleted.set()

    listed: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(_VersionedKeyStore, "items", slowly)
        beside(lambda: listed.append(s3.list_objects_v2(Bucket=BUCKET)), begun, delete)
    assert [each["Key"] for each in listed[0]["Contents"]] == ["a", "b"]


def test_an_object_that_has_replaced_another_is_not_copied_in_its_place(s3: Any) -> None:
    read = s3.put_object(Bucket=BUCKET, Key="a b\u00e9", Body=b"one")["ETag"]
    s3.put_object(Bucket=BUCKET, Key="a b\u00e9", Body=b"another")
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="c")["UploadId"]
    copies: list[Callable[..., Any]] = [
        s3.copy_object,
        partial(s3.upload_part_copy, UploadId=upload, PartNumber=1),
    ]
    whence = {"Bucket": BUCKET, "Key": "a b\u00e9"}
    for copy in copies:
        with pytest.raises(ClientError, match="PreconditionFailed"):
            copy(Bucket=BUCKET, Key="c", CopySource=whence, CopySourceIfMatch=read)
        there = s3.head_object(Bucket=BUCKET, Key="a b\u00e9")["ETag"]
        copy(Bucket=BUCKET, Key="c", CopySource=whence, CopySourceIfMatch=there)
    with pytest.raises(ClientError, match="NoSuchKey"):
        s3.copy_object(
            Bucket=BUCKET, Key="c", CopySource={**whence, "Key": "gone"}, CopySourceIfMatch=read
        )
    s3.abort_multipart_upload(Bucket=BUCKET, Key="c", UploadId=upload)


def test_a_message_that_is_sent_while_another_is_deleted_is_not_lost(server: AwsServer) -> None:
    begun, sent = threading.Event(), threading.Event()

    class Slow(list[Message]):
        def __iter__(self) -> Iterator[Message]:
            yield from super().__iter__()
            if not begun.is_set():  # the first to go through it is the one that deletes
                begun.set()
                sent.wait(PAUSE)

    with client(server, "sqs") as sqs, client(server, "sqs") as other:
        url = sqs.create_queue(QueueName="gaps")["QueueUrl"]
        sqs.send_message(QueueUrl=url, MessageBody="one")
        (message,) = sqs.receive_message(QueueUrl=url)["Messages"]
        queue = sqs_backends[ACCOUNT_ID]["us-east-1"].queues["gaps"]
        queue._messages = Slow(queue._messages)

        def send() -> None:
            other.send_message(QueueUrl=url, MessageBody="two")
            sent.set()

        def delete() -> None:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])

        beside(delete, begun, send)
        left = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        sqs.delete_queue(QueueUrl=url)
    assert [each["Body"] for each in left] == ["two"]


def test_an_error_of_motos_own_is_one_line_without_a_key_or_a_message(
    s3: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("DOE^JANE changed size during iteration")

    with monkeypatch.context() as patch:
        patch.setattr(S3Backend, "get_object", broken)
        with pytest.raises(ClientError) as raised:
            s3.get_object(Bucket=BUCKET, Key="DOE^JANE")
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    (line,) = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert line.startswith("500 from moto for s3 GET object: RuntimeError in test_moto_gaps.py:")
    assert "DOE" not in line
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_client_that_hangs_up_within_its_body_is_no_error(
    server: AwsServer, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_connection(server.get_host_and_port()) as peer:
        peer.sendall(b"PUT /gaps/a HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
        peer.shutdown(socket.SHUT_WR)
        assert peer.recv(100).startswith(b"HTTP/1.1 400")
    assert [each for each in caplog.records if each.levelno >= logging.ERROR] == []


@pytest.mark.parametrize(
    ("service", "environ", "words"),
    [
        ("dynamodb", {"HTTP_X_AMZ_TARGET": "DynamoDB_20120810.PutItem"}, "dynamodb PutItem"),
        ("sqs", {"HTTP_X_AMZ_TARGET": "AmazonSQS.Receive\x1bMessage"}, "sqs GET"),
        ("s3", {"PATH_INFO": "/b/DOE^JANE", "QUERY_STRING": "uploadId=x&y=z"},
         "s3 GET object uploadId"),
        ("s3", {"PATH_INFO": "/b/", "QUERY_STRING": "list-type=2&prefix=DOE"},
         "s3 GET bucket list-type"),
        ("", {}, "an unknown service GET"),
    ],
)  # fmt: skip
def test_an_operation_is_told_without_names(
    service: str, environ: dict[str, str], words: str
) -> None:
    assert operation(service, {"REQUEST_METHOD": "GET", "PATH_INFO": "/", **environ}) == words
