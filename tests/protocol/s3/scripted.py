"""An S3 on loopback that does what its script says, one step a request."""

import asyncio
import contextlib
import datetime as dt
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from awscrt.checksums import crc64nvme
from botocore.credentials import Credentials
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from store_scp.clocks import ServerClock
from store_scp.s3 import ObjectRequest, S3Bucket
from store_scp.s3.credentials import CredentialSource
from store_scp.s3.endpoint import Endpoint
from store_scp.s3.pool import IDLE_SECONDS, Pool

from contract.checksums import Checksum

WANTED = ObjectRequest("instances/b1/1.2.dcm", "application/dicom", {"study": "1.2"})


def checksum(data: bytes | bytearray) -> Checksum:
    return Checksum.crc64nvme(crc64nvme(bytes(data)))


@dataclass(slots=True)
class Exchange:
    """One request as the server sees it, its head read; a step does the rest."""

    target: str
    headers: dict[str, str]
    connection: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    body: bytes | None = None

    async def read_body(self) -> None:
        self.body = await self.reader.readexactly(int(self.headers["content-length"]))

    async def until_closed(self) -> bytes:
        """Everything that still comes, until the client is gone."""
        return await self.reader.read(-1)


Step = Callable[[Exchange], Awaitable[None]]


def raw(data: bytes, *, close: bool = False) -> Step:
    """Reads the body and sends these bytes, whatever they are."""

    async def step(got: Exchange) -> None:
        await got.read_body()
        got.writer.write(data)
        if close:
            got.writer.close()

    return step


def answer(status: int, code: str = "", body: bytes = b"", **headers: str) -> Step:
    """A well-formed response; ``code`` makes an Error document."""
    return raw(response(status, code, body, **headers))


def response(status: int, code: str = "", body: bytes = b"", **headers: str) -> bytes:
    body = f"<Error><Code>{code}</Code></Error>".encode() if code else body
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


OK = answer(200, ETag='"0"')


async def stall(got: Exchange) -> None:
    """Reads all and says nothing."""
    await got.until_closed()


async def reset(got: Exchange) -> None:
    """Closes without a word."""
    got.writer.transport.abort()


def early(status: int, code: str = "") -> Step:
    """Answers when it has the head, and then reads on."""

    async def step(got: Exchange) -> None:
        got.writer.write(response(status, code, ETag='"0"'))
        await got.until_closed()

    return step


@dataclass(slots=True)
class ScriptedS3:
    """Follows ``script`` a request at a time; after its end everything is stored."""

    script: list[Step] = field(default_factory=list)
    port: int = 0
    seen: list[Exchange] = field(default_factory=list)
    connections: int = 0
    open_now: int = 0
    open_most: int = 0
    all_closed: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open_now += 1
        self.open_most = max(self.open_most, self.open_now)
        try:
            await self._follow(self.connections, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self.open_now -= 1
            if not self.open_now:
                self.all_closed.set()
            writer.close()
            self._tasks.discard(task)

    async def _follow(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while not writer.is_closing():
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
            headers = dict(line.split(": ", 1) for line in lines)
            got = Exchange(first.split(" ")[1], headers, number, reader, writer)
            self.seen.append(got)
            step = self.script.pop(0) if self.script else OK
            await step(got)

    async def stopped(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def scripted_s3(
    *script: Step, tls: ssl.SSLContext | None = None
) -> AsyncIterator[ScriptedS3]:
    s3 = ScriptedS3(list(script))
    server = await asyncio.start_server(s3.serve, "127.0.0.1", 0, ssl=tls)
    s3.port = server.sockets[0].getsockname()[1]
    try:
        yield s3
    finally:
        server.close()
        await s3.stopped()


class Stats:
    """Remembers what the client counted."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.attempts: list[bool] = []
        self.retries = 0

    def uploading(self, delta: int) -> None:
        self.in_flight += delta

    def uploaded(self, seconds: float, ok: bool) -> None:
        assert seconds >= 0
        self.attempts.append(ok)

    def retried(self) -> None:
        self.retries += 1


class Keys:
    """A provider that has another key each time it is asked."""

    def __init__(self) -> None:
        self.loads = 0

    def __call__(self) -> Credentials:
        self.loads += 1
        return Credentials(f"key{self.loads}", "secret", "token")


@dataclass(slots=True)
class Client:
    """A bucket that talks to the scripted S3, and the pieces it is made of."""

    bucket: S3Bucket
    pool: Pool
    stats: Stats
    keys: Keys

    async def put(self, body: bytes | bytearray = b"pixels", *, seconds: float = 10) -> None:
        await self.bucket.put(WANTED, [memoryview(body)], checksum(body), seconds=seconds)


@contextlib.asynccontextmanager
async def client(
    port: int,
    *,
    max_connections: int = 4,
    idle_seconds: float = IDLE_SECONDS,
    tls: ssl.SSLContext | None = None,
    clock: ServerClock | None = None,
) -> AsyncIterator[Client]:
    address = f"127.0.0.1:{port}"
    endpoint = Endpoint("127.0.0.1", port, tls, address, "/bucket/", "eu-central-1")
    pool = Pool(endpoint, max_connections, idle_seconds)
    stats, keys = Stats(), Keys()
    bucket = S3Bucket(endpoint, pool, CredentialSource(keys), stats, clock or ServerClock())
    try:
        yield Client(bucket, pool, stats, keys)
    finally:
        await bucket.close()
        assert stats.in_flight == 0


def certificate(directory: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's context for 127.0.0.1 and the CA bundle that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "loopback")])
    now = dt.datetime.now(dt.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    bundle, private = directory / "ca.pem", directory / "key.pem"
    bundle.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(bundle, private)
    return context, bundle
