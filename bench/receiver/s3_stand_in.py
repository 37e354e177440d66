"""An S3 that takes everything, as fast as it can: PUT and multipart uploads into files.

It verifies nothing while the clock runs: it writes each body down as it came, and ``objects.jsonl``
says which files make an object, for :mod:`bench.receiver.check` to hash afterwards. A process of
its own, whose CPU nobody counts.
"""

import argparse
import asyncio
import itertools
import json
import os
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from urllib.parse import parse_qs, unquote, urlsplit

import httptools
import uvloop

INDEX = "objects.jsonl"
_BUFFER_BYTES = 512 * 1024
_NO_FILE = -1
_XML = "<?xml version='1.0' encoding='UTF-8'?>"
_CREATED = _XML + (
    "<InitiateMultipartUploadResult><UploadId>{}</UploadId></InitiateMultipartUploadResult>"
)
_COMPLETED = _XML + (
    "<CompleteMultipartUploadResult><ETag>&quot;0&quot;</ETag></CompleteMultipartUploadResult>"
)


@dataclass(frozen=True, slots=True)
class Request:
    """The head of an HTTP request, as far as this S3 cares."""

    method: str
    key: str
    query: dict[str, str]
    headers: dict[str, str]

    @classmethod
    def of(cls, method: str, target: str, headers: dict[str, str]) -> "Request":
        """The request line and the headers, their names in lower case."""
        url = urlsplit(target)
        query = {n: v[0] for n, v in parse_qs(url.query, keep_blank_values=True).items()}
        return cls(method, unquote(url.path), query, headers)

    @property
    def is_chunked(self) -> bool:
        """Whether the body is framed as aws-chunked, with a trailing checksum."""
        return "aws-chunked" in self.headers.get("content-encoding", "")


class Bucket:
    """What has arrived, in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._index = folder / INDEX
        self._index.touch()
        self._numbers = itertools.count(1)
        self._uploads: dict[str, dict[int, tuple[str, bool]]] = {}

    def new_file(self) -> tuple[str, int]:
        """A name and an open descriptor for one body."""
        name = str(next(self._numbers))
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        return name, os.open(self._folder / name, flags, 0o600)

    def finish(self, request: Request, name: str) -> tuple[int, str]:
        """A request has arrived whole: the HTTP status and the body of its answer."""
        answer = 200, ""
        match request.method, sorted(request.query.keys() & {"uploads", "uploadId", "partNumber"}):
            case "PUT", ["partNumber", "uploadId"]:
                part = int(request.query["partNumber"])
                self._uploads[request.query["uploadId"]][part] = (name, request.is_chunked)
            case "PUT", _:
                self._add(request.key, [(name, request.is_chunked)])
            case "POST", ["uploads"]:
                self._uploads[name] = {}
                answer = 200, _CREATED.format(name)
            case "POST", ["uploadId"]:
                parts = self._uploads.pop(request.query["uploadId"])
                self._add(request.key, [parts[number] for number in sorted(parts)])
                answer = 200, _COMPLETED
            case "DELETE", _:
                answer = 204, ""
            case "HEAD", _:
                pass
            case _:
                answer = 404, ""
        return answer

    def _add(self, key: str, parts: list[tuple[str, bool]]) -> None:
        line = json.dumps({"key": key, "parts": parts}).encode() + b"\n"
        with self._index.open("ab", buffering=0) as index:  # whole lines only, for who reads now
            index.write(line)


class _Connection(asyncio.BufferedProtocol):
    """One client; requests come one after the other. The ``on_`` methods are httptools' names."""

    def __init__(self, bucket: Bucket, latency: float) -> None:
        self._bucket = bucket
        self._latency = latency
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._parser = httptools.HttpRequestParser(self)
        self._target = ""
        self._headers: dict[str, str] = {}
        self._name, self._descriptor = "", _NO_FILE

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        try:
            self._parser.feed_data(self._buffer[:nbytes])
        except httptools.HttpParserError:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        if self._descriptor != _NO_FILE:
            os.close(self._descriptor)

    def on_url(self, url: bytes) -> None:
        self._target += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._name, self._descriptor = self._bucket.new_file()
        if self._headers.get("expect") == "100-continue":
            self._write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        os.write(self._descriptor, body)

    def on_message_complete(self) -> None:
        os.close(self._descriptor)
        self._descriptor = _NO_FILE
        method = self._parser.get_method().decode()
        request = Request.of(method, self._target, self._headers)
        self._target, self._headers = "", {}
        answer = _answer(request, *self._bucket.finish(request, self._name))
        if self._latency and request.method == "PUT":
            asyncio.get_running_loop().call_later(self._latency, self._write, answer)
        else:
            self._write(answer)

    def _write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)


def _answer(request: Request, status: int, body: str) -> bytes:
    return "\r\n".join(_answer_lines(request, status, body)).encode()


def _answer_lines(request: Request, status: int, body: str) -> Iterator[str]:
    yield f"HTTP/1.1 {status} Bench"
    yield f"Content-Length: {len(body)}"
    yield 'ETag: "0"'
    for name, value in request.headers.items():
        # S3 repeats the checksum it has verified; a client may compare.
        if name.startswith("x-amz-checksum-") and "algorithm" not in name and "type" not in name:
            yield f"{name}: {value}"
    yield ""
    yield body


async def _serve(options: argparse.Namespace) -> None:
    bucket = Bucket(options.folder)
    context = None
    if options.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.certificate, options.key)
    server = await asyncio.get_running_loop().create_server(
        lambda: _Connection(bucket, options.latency),
        "127.0.0.1",
        options.port,
        ssl=context,
        backlog=1024,
    )
    async with server:
        await server.serve_forever()


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before a PUT's answer")
    parser.add_argument("--certificate", type=Path)
    parser.add_argument("--key", type=Path)
    uvloop.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
