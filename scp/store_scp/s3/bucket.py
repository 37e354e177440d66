"""The bucket as the receiver sees it: each operation is done, or refused in time."""

import asyncio
import random
import ssl
import time
from collections.abc import Callable, Sequence
from functools import partial
from http import HTTPStatus
from socket import gaierror
from typing import Protocol, Self, TypeVar

from botocore.credentials import ReadOnlyCredentials

from contract.checksums import Checksum
from store_scp.clocks import ServerClock
from store_scp.dimse.status import Status
from store_scp.errors import StoreRefused
from store_scp.s3 import answers, requests
from store_scp.s3.answers import Response
from store_scp.s3.connection import CONNECTION_LOST, MAX_RESPONSE
from store_scp.s3.credentials import CredentialSource
from store_scp.s3.endpoint import Endpoint
from store_scp.s3.errors import AlreadyExists, AttemptFailed, Remedy
from store_scp.s3.pool import Pool
from store_scp.s3.requests import ObjectRequest, PartReceipt, Request
from store_scp.s3.retries import attempt_seconds, pause_before_retry
from store_scp.s3.sigv4 import TIMESTAMP

T = TypeVar("T")
# Bytes read at once of an object that is compared.
PIECE = 1024 * 1024
# A comparison, and the end of an upload.
_NO_UPLOADS = ("GET", "DELETE")


class UploadStats(Protocol):
    """Who counts requests."""

    def uploading(self, delta: int) -> None:
        """One request more (1) or less (-1) is on its way."""

    def uploaded(self, seconds: float, ok: bool) -> None:
        """An attempt ended."""

    def retried(self) -> None:
        """An attempt that failed is made again."""


class _NoStats:
    def uploading(self, delta: int) -> None:
        pass

    def uploaded(self, seconds: float, ok: bool) -> None:
        pass

    def retried(self) -> None:
        pass


class S3Bucket:
    """Stores objects in one bucket, from one event loop.

    Every operation has ``seconds`` for itself and its retries, and raises StoreRefused. Buffers it
    was given are the caller's again as soon as it returns or raises, cancelled or not.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        pool: Pool,
        credentials: CredentialSource,
        stats: UploadStats,
        clock: ServerClock,
    ) -> None:
        """Requests are signed at ``clock``'s time; every answer's ``Date`` goes to it."""
        self._endpoint = endpoint
        self._pool = pool
        self._credentials = credentials
        self._stats = stats
        self._clock = clock
        self._loop = asyncio.get_running_loop()

    @classmethod
    def open(
        cls,
        endpoint: Endpoint,
        *,
        max_connections: int,
        clock: ServerClock,
        stats: UploadStats | None = None,
    ) -> Self:
        """A client of the bucket at ``endpoint``; asks the network nothing yet."""
        pool = Pool(endpoint, max_connections)
        credentials = CredentialSource(expiry_time=clock.expiry_time)
        return cls(endpoint, pool, credentials, stats or _NoStats(), clock)

    async def put(
        self,
        request: ObjectRequest,
        body: Sequence[bytes | memoryview],
        checksum: Checksum,
        *,
        seconds: float,
        if_none_match: bool = False,
    ) -> None:
        """Store an object; with ``if_none_match`` raises AlreadyExists if the key is taken."""
        put = requests.put_object(request, body, checksum, if_none_match=if_none_match)
        try:
            await self._perform(put, lambda got: answers.accept_object(got, checksum), seconds)
        except StoreRefused as refused:
            if if_none_match and refused.detail == answers.PRECONDITION_FAILED:
                raise AlreadyExists("the key is taken") from None
            raise

    async def holds(self, key: str, body: memoryview, *, seconds: float) -> bool:
        """Whether an object is exactly these bytes.

        It is read in pieces; the first that differs ends the reading.
        """
        deadline = self._loop.time() + seconds
        for start in range(0, len(body), PIECE):
            end = min(start + PIECE, len(body))
            get = requests.get_range(key, start, end)
            accept = partial(answers.accept_range, start=start, end=end, size=len(body))
            if await self._perform(get, accept, deadline - self._loop.time()) != body[start:end]:
                return False
        return True

    async def create_multipart(self, request: ObjectRequest, *, seconds: float) -> str:
        """Begin an object of many parts; the upload's id.

        A retry may leave an upload that no one knows: the batch's import ends those.
        """
        create = requests.create_multipart_upload(request)
        return await self._perform(create, answers.accept_upload_id, seconds)

    async def put_part(
        self,
        key: str,
        upload_id: str,
        number: int,
        body: memoryview,
        checksum: Checksum,
        *,
        seconds: float,
    ) -> PartReceipt:
        """Store one part, of at least 5 MiB unless it is the last."""
        part = requests.upload_part(key, upload_id, number, body, checksum)
        return await self._perform(
            part, lambda got: answers.accept_part(got, number, checksum), seconds
        )

    async def complete_multipart(
        self,
        key: str,
        upload_id: str,
        parts: Sequence[PartReceipt],
        checksum: Checksum,
        *,
        seconds: float,
    ) -> None:
        """Make the parts an object whose checksum over all bytes S3 compares with this one."""
        complete = requests.complete_multipart_upload(key, upload_id, parts, checksum)
        await self._perform(complete, lambda got: answers.accept_completed(got, checksum), seconds)

    async def abort_multipart(self, key: str, upload_id: str, *, seconds: float) -> None:
        """Drop an upload and its parts; one that is gone already is well."""
        abort = requests.abort_multipart_upload(key, upload_id)
        await self._perform(abort, answers.accept_aborted, seconds)

    async def close(self) -> None:
        """Close the connections; operations under way are refused."""
        self._credentials.close()
        await self._pool.close()

    async def _perform(
        self, request: Request, accept: Callable[[Response], T], seconds: float
    ) -> T:
        deadline = self._loop.time() + seconds
        earlier: list[Remedy] = []
        while True:
            try:
                return await self._attempt(request, accept, deadline)
            except AttemptFailed as failed:
                remaining = deadline - self._loop.time()
                pause = pause_before_retry(failed, earlier, remaining, random.random())  # noqa: S311
                if pause is None:
                    raise failed.refused() from None
                earlier.append(failed.remedy)
            await asyncio.sleep(pause)
            if request.method not in _NO_UPLOADS:
                self._stats.retried()

    async def _attempt(
        self, request: Request, accept: Callable[[Response], T], deadline: float
    ) -> T:
        try:
            async with asyncio.timeout_at(deadline) as limit:
                credentials = await self._credentials.current()
                # Waiting for a place may take all the time; a stalled connection only half of it.
                async with self._pool:
                    now = self._loop.time()
                    limit.reschedule(now + attempt_seconds(deadline - now))
                    response = await self._exchange(request, credentials)
        except OSError as error:
            raise _unreachable(error) from None
        try:
            return accept(response)
        except AttemptFailed as failed:
            if failed.remedy is Remedy.NEW_CREDENTIALS:
                self._credentials.reject(credentials)
            raise

    async def _exchange(self, request: Request, credentials: ReadOnlyCredentials) -> Response:
        asked_at = self._clock.steady()
        timestamp = time.strftime(TIMESTAMP, time.gmtime(self._clock.seconds()))
        head = request.head(self._endpoint, credentials, timestamp)
        if request.method in _NO_UPLOADS:
            response = await self._pool.exchange(head, request.body, MAX_RESPONSE + PIECE)
        else:
            response = await self._upload(head, request)
        # A refusal may be one of the time that was signed; the next attempt has this one's.
        refused = response.status >= HTTPStatus.BAD_REQUEST
        self._clock.answered(response.headers.get("date"), asked_at, always=refused)
        return response

    async def _upload(self, head: bytes, request: Request) -> Response:
        """An exchange that is counted."""
        started = self._loop.time()
        status = None
        self._stats.uploading(1)
        try:
            response = await self._pool.exchange(head, request.body)
            status = response.status
        finally:
            self._stats.uploading(-1)
            self._stats.uploaded(self._loop.time() - started, status == HTTPStatus.OK)
        return response


def _unreachable(error: OSError) -> AttemptFailed:
    """A failure before or beneath HTTP, in a word of ours."""
    if isinstance(error, ssl.SSLCertVerificationError):
        # Another CA bundle or another endpoint is wanted.
        return AttemptFailed("CertificateInvalid", Status.PROCESSING_FAILURE, Remedy.GIVE_UP)
    words = (word for kind, word in _WORDS if isinstance(error, kind))
    return AttemptFailed(next(words, CONNECTION_LOST))


_WORDS: tuple[tuple[type[OSError], str], ...] = (
    (TimeoutError, "Timeout"),
    (ssl.SSLError, "TlsFailed"),
    (gaierror, "NameNotResolved"),
    (ConnectionRefusedError, "ConnectionRefused"),
)
