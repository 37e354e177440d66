"""Leases are signed at AWS's time: a DynamoDB that checks signatures, and clocks that are off."""

import asyncio
import http.server
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from store_scp.clocks import ServerClock
from store_scp.errors import StoreRefused
from store_scp.lease_store import DynamoLeases
from store_scp.s3.credentials import CredentialSource

from contract.records import BatchRecord, BatchState, Counts
from contract.times import to_iso
from tests.protocol.fake_s3 import CREDENTIALS

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
BATCH = BatchRecord(
    batch_id="20261123T093000Z-0001020304050607",
    state=BatchState.OPEN,
    calling_ae_title="CT1",
    called_ae_title="STORESCP",
    opened_at=NOW,
    counts=Counts(0),
    owner="task/1/0a0b0c0d",
    lease_expires_at=NOW,
)


def end() -> datetime:
    return NOW


_END = re.compile(r'"(?:leaseExpiresAt|:expires)": *{"S": *"([^"]+)"}')
_SIGNED = re.compile(r"Credential=([^,]+), SignedHeaders=([^,]+), Signature=([0-9a-f]{64})")


@dataclass(slots=True)
class Checking:
    """A DynamoDB whose every answer is a success or names what is wrong with the signature."""

    port: int = 0
    # How far its own clock is from this machine's.
    ahead: timedelta = timedelta()
    # The keys that it refuses, by what code.
    refused: dict[str, str] = field(default_factory=dict)
    answers: list[int] = field(default_factory=list)
    # The leases' ends in what it wrote.
    ends: list[str] = field(default_factory=list)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    table: Checking

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        told = datetime.strptime(self.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        in_time = abs(told - self.table.now()) < timedelta(minutes=15)
        found = _SIGNED.search(self.headers["Authorization"])
        assert found is not None
        if code := self.table.refused.get(found[1].partition("/")[0]):
            self._answer(HTTPStatus.BAD_REQUEST, code)
        elif in_time and self._is_signed(body):
            self.table.ends += _END.findall(body.decode())
            self._answer(HTTPStatus.OK)
        else:
            self._answer(HTTPStatus.BAD_REQUEST)

    def _is_signed(self, body: bytes) -> bool:
        """Whether botocore makes the same signature of what has come."""
        found = _SIGNED.search(self.headers["Authorization"])
        assert found is not None
        names = found[2].split(";")
        url = f"http://{self.headers['Host']}{self.path}"
        request = AWSRequest("POST", url, {name: self.headers[name] for name in names}, body)
        request.context["timestamp"] = self.headers["X-Amz-Date"]
        keys = Credentials(CREDENTIALS["AWS_ACCESS_KEY_ID"], CREDENTIALS["AWS_SECRET_ACCESS_KEY"])
        auth = SigV4Auth(keys, "dynamodb", CREDENTIALS["AWS_DEFAULT_REGION"])
        text = auth.string_to_sign(request, auth.canonical_request(request))
        return found[3] == auth.signature(text, request)

    def _answer(self, status: HTTPStatus, code: str = "InvalidSignatureException") -> None:
        self.table.answers.append(status)
        error = {"__type": f"com.amazon.coral.service#{code}"}
        body = json.dumps({} if status == HTTPStatus.OK else error).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.0")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string(self.table.now().timestamp())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@contextmanager
def checking() -> Iterator[Checking]:
    table = Checking()
    handler = type("Handler", (_Handler,), {"table": table})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        table.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield table
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Iterator[Checking]:
    with checking() as running:
        for name, value in CREDENTIALS.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", f"http://127.0.0.1:{running.port}")
        yield running


def off_by(hours: int) -> ServerClock:
    return ServerClock(lambda: time.time() + hours * 3_600)


@pytest.mark.fault("wrong-clock")
@pytest.mark.parametrize("hours", [-30, -1, 0, 1, 30])
def test_a_lease_is_granted_by_a_clock_that_is_hours_off(table: Checking, hours: int) -> None:
    async def scene() -> None:
        clock = off_by(hours)
        with closing(DynamoLeases("batches", clock)) as leases:
            assert await leases.take(BATCH, end)
            assert clock.known
            assert await leases.renew(BATCH, end)
        refused = [HTTPStatus.BAD_REQUEST] if hours else []
        assert table.answers == [*refused, HTTPStatus.OK, HTTPStatus.OK]

    asyncio.run(scene())


def test_a_steady_clock_that_missed_hours_is_found_out_within_one_request(table: Checking) -> None:
    async def scene() -> None:
        clock = ServerClock()
        with closing(DynamoLeases("batches", clock)) as leases:
            assert await leases.take(BATCH, end)
            table.ahead = timedelta(hours=5)
            assert await leases.renew(BATCH, end)
            assert abs(clock.now() - table.now()) < timedelta(seconds=5)
        assert table.answers == [200, 400, 400, 200]

    asyncio.run(scene())


@pytest.mark.fault("wrong-clock")
@pytest.mark.parametrize("hours", [-5, 5])
def test_a_request_that_is_signed_anew_writes_an_end_by_the_time_it_was_told(
    table: Checking, hours: int
) -> None:
    async def scene() -> None:
        clock = off_by(hours)
        with closing(DynamoLeases("batches", clock)) as leases:
            written = await leases.take(BATCH, clock.latest)
            assert written is not None
            assert table.answers == [400, 200]
            assert table.ends == [to_iso(written)]
            assert abs(written - table.now()) < timedelta(seconds=10)

    asyncio.run(scene())


@dataclass(slots=True)
class Keys:
    """A provider that has another key each time it is asked."""

    loads: int = 0

    def __call__(self) -> Credentials:
        self.loads += 1
        return Credentials(f"key{self.loads}", CREDENTIALS["AWS_SECRET_ACCESS_KEY"])


@pytest.mark.fault("wrong-clock")
@pytest.mark.parametrize("code", ["ExpiredTokenException", "UnrecognizedClientException"])
def test_credentials_that_aws_calls_expired_are_loaded_anew_once(
    table: Checking, code: str
) -> None:
    async def scene() -> None:
        keys = Keys()
        with closing(DynamoLeases("batches", off_by(0), CredentialSource(keys))) as leases:
            table.refused["key1"] = code
            assert await leases.take(BATCH, end)
            assert await leases.renew(BATCH, end)
            assert keys.loads == 2
            assert table.answers == [400, 200, 200]
        table.refused["key2"] = table.refused["key3"] = code
        keys = Keys()
        with (
            closing(DynamoLeases("batches", off_by(0), CredentialSource(keys))) as leases,
            pytest.raises(StoreRefused, match=f"lease: {code}"),
        ):
            await leases.take(BATCH, end)
        assert keys.loads == 2

    asyncio.run(scene())


def test_a_wrong_key_is_no_matter_of_time_and_is_told_so(
    table: Checking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")

    async def scene() -> None:
        with (
            closing(DynamoLeases("batches", off_by(0))) as leases,
            pytest.raises(StoreRefused, match="lease: InvalidSignatureException"),
        ):
            await leases.take(BATCH, end)
        assert table.answers == [400] * 3

    asyncio.run(scene())


def test_without_credentials_nothing_is_sent(
    table: Checking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")

    async def scene() -> None:
        with (
            closing(DynamoLeases("batches", off_by(0))) as leases,
            pytest.raises(StoreRefused, match="lease: NoCredentials"),
        ):
            await leases.take(BATCH, end)
        assert table.answers == []

    asyncio.run(scene())
