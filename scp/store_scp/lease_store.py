"""Leases in the batch table: conditional writes to DynamoDB, each in a thread.

A few calls a minute for each open batch, so botocore's cost does not matter; it may wait for the
network or for credentials, though, and so never runs on the event loop.

botocore signs with the system's clock and never corrects it. So the requests are signed here, at
AWS's time, as every answer's ``Date`` says it (``server_time.py``), and with the credentials of a
source like the S3 client's, which are loaded anew where AWS calls them expired.

The attributes are those of ``chalicelib.stores.items``, which reads them.
"""

import asyncio
import threading
from collections import Counter as Tally
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Any, Protocol

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import BotoCoreError, ClientError
from botocore.handlers import disable_signing
from botocore.session import Session

from contract.records import BatchRecord, BatchState
from contract.times import to_iso
from store_scp.clocks import ServerClock
from store_scp.dimse.status import Status
from store_scp.errors import StoreRefused
from store_scp.s3.credentials import CredentialSource
from store_scp.s3.errors import AttemptFailed, Remedy
from store_scp.s3.sigv4 import TIMESTAMP

# A burst of new studies opens as many batches at once as there are threads; more wait in order.
_THREADS = 4
# An answer takes DynamoDB some 10 ms. Twice this, with the pause between, stays below a third of
# the default lease, so that two renewals fit into what is left of it.
_CONNECT_SECONDS = 2
_READ_SECONDS = 4
_ATTEMPTS = 2

_CONDITION_FAILED = "ConditionalCheckFailedException"
# DynamoDB's words for a signature of another time, among other things ("Signature expired: ...").
# Nothing was written, and the answer says what time it is.
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html
_REMEDIES = {
    "InvalidSignatureException": Remedy.NEW_TIME,
    "RequestExpired": Remedy.NEW_TIME,
    # botocore may have put off the expiry of credentials by a clock that is hours off; and keys
    # are rotated.
    "ExpiredTokenException": Remedy.NEW_CREDENTIALS,
    "UnrecognizedClientException": Remedy.NEW_CREDENTIALS,
}
# How often. Where an answer contradicts all before it, a second must confirm it.
_REPETITIONS = {Remedy.NEW_TIME: 2, Remedy.NEW_CREDENTIALS: 1}
_ASKED_AT = "store_scp_asked_at"
# A repeated request of ours whose first answer was lost finds our own record.
_NEW_OR_OURS = "attribute_not_exists(batchId) OR (#state = :open AND #owner = :owner)"
_OURS = "#state = :open AND #owner = :owner"
_NAMES = {"#state": "state", "#owner": "owner"}


class LeaseStore(Protocol):
    """Where leases are written.

    Both requests raise StoreRefused where there is no answer. Otherwise they return the lease's end
    as it was written: ``end`` is called for every attempt, since the answer to one may correct the
    clock for the next.
    """

    async def take(self, batch: BatchRecord, end: Callable[[], datetime]) -> datetime | None:
        """Write a new batch's record, with its owner and lease; None if another has it."""
        ...

    async def renew(self, batch: BatchRecord, end: Callable[[], datetime]) -> datetime | None:
        """Put the lease's end off; None if the batch is not open or not its owner's any more."""
        ...

    def close(self) -> None:
        """Nothing is asked after this."""
        ...


class DynamoLeases:
    """A LeaseStore; its client is made in the background, which takes a moment."""

    def __init__(
        self, table: str, clock: ServerClock, credentials: CredentialSource | None = None
    ) -> None:
        self._table = table
        self._credentials = credentials or CredentialSource(expiry_time=clock.expiry_time)
        self._threads = ThreadPoolExecutor(_THREADS, "leases")
        self._signer = _Signer(clock, asyncio.get_running_loop())
        self._client: Future[Any] = self._threads.submit(_connect, self._signer)

    async def take(self, batch: BatchRecord, end: Callable[[], datetime]) -> datetime | None:
        """See LeaseStore."""

        def put(client: Any, expires_at: datetime) -> None:
            client.put_item(
                TableName=self._table,
                Item=opening_item(replace(batch, lease_expires_at=expires_at)),
                ConditionExpression=_NEW_OR_OURS,
                ExpressionAttributeNames=_NAMES,
                ExpressionAttributeValues=_ours(batch),
            )

        return await self._ask(put, end)

    async def renew(self, batch: BatchRecord, end: Callable[[], datetime]) -> datetime | None:
        """See LeaseStore."""

        def update(client: Any, expires_at: datetime) -> None:
            client.update_item(
                TableName=self._table,
                Key={"batchId": {"S": batch.batch_id}},
                UpdateExpression="SET leaseExpiresAt = :expires",
                ConditionExpression=_OURS,
                ExpressionAttributeNames=_NAMES,
                ExpressionAttributeValues={
                    **_ours(batch),
                    ":expires": {"S": to_iso(expires_at)},
                },
            )

        return await self._ask(update, end)

    def close(self) -> None:
        """See LeaseStore."""
        self._credentials.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _ask(
        self, write: Callable[[Any, datetime], None], end: Callable[[], datetime]
    ) -> datetime | None:
        loop = asyncio.get_running_loop()
        earlier: Tally[Remedy] = Tally()
        while True:
            keys = await self._keys()
            try:
                return await loop.run_in_executor(self._threads, self._granted, write, end, keys)
            except _SignatureRefused as refused:
                if refused.remedy is Remedy.NEW_CREDENTIALS:
                    self._credentials.reject(keys)
                if earlier[refused.remedy] >= _REPETITIONS[refused.remedy]:
                    raise
                earlier[refused.remedy] += 1

    async def _keys(self) -> ReadOnlyCredentials:
        try:
            return await self._credentials.current()
        except AttemptFailed as failed:
            raise _unanswered(failed.code) from None

    def _granted(
        self,
        write: Callable[[Any, datetime], None],
        end: Callable[[], datetime],
        keys: ReadOnlyCredentials,
    ) -> datetime | None:
        """In a thread."""
        try:
            client = self._client.result()
            expires_at = end()
            with self._signer.using(keys):
                write(client, expires_at)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "ClientError")
            if code == _CONDITION_FAILED:
                return None
            if remedy := _REMEDIES.get(code):
                raise _SignatureRefused(code, remedy) from None
            raise _unanswered(code) from None
        except BotoCoreError as error:
            raise _unanswered(type(error).__name__) from None
        return expires_at


class _SignatureRefused(StoreRefused):
    """DynamoDB does not accept the signature; it may accept one that the remedy makes."""

    def __init__(self, code: str, remedy: Remedy) -> None:
        super().__init__(Status.OUT_OF_RESOURCES, f"lease: {code}")
        self.remedy = remedy


class _Signer:
    """Signs a client's requests at AWS's time, and reads that from its answers."""

    def __init__(self, clock: ServerClock, loop: asyncio.AbstractEventLoop) -> None:
        self._clock = clock
        self._loop = loop
        self._of_thread = threading.local()

    @contextmanager
    def using(self, keys: ReadOnlyCredentials) -> Iterator[None]:
        """Sign what this thread asks meanwhile with these credentials."""
        self._of_thread.keys = keys
        try:
            yield
        finally:
            del self._of_thread.keys

    def attach(self, client: Any) -> None:
        """Sign for the client from now on, in place of botocore."""

        def sign(request: AWSRequest, region_name: str, **_: object) -> None:
            request.context[_ASKED_AT] = self._clock.steady()
            service = client.meta.service_model.signing_name
            keys = self._of_thread.keys
            _TimedAuth(keys, service, region_name, self._clock).add_auth(request)

        client.meta.events.register("choose-signer.dynamodb", disable_signing)
        client.meta.events.register("before-sign.dynamodb", sign)
        client.meta.events.register("response-received.dynamodb", self._answered)

    def _answered(
        self, response_dict: Mapping[str, Any] | None, context: Mapping[str, Any], **_: object
    ) -> None:
        """In a thread; the clock hears of it on the event loop, before who asked does."""
        if response_dict is None:
            return
        date = response_dict["headers"].get("date")
        refused = response_dict["status_code"] >= HTTPStatus.BAD_REQUEST
        heard = partial(self._clock.answered, date, context[_ASKED_AT], always=refused)
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(heard)


class _TimedAuth(SigV4Auth):
    """botocore's signature, at the time of another clock."""

    def __init__(self, credentials: Any, service: str, region: str, clock: ServerClock) -> None:
        super().__init__(credentials, service, region)
        self._clock = clock

    def _modify_request_before_signing(self, request: AWSRequest) -> None:
        # What add_auth has just read from the system's clock.
        request.context["timestamp"] = self._clock.now().strftime(TIMESTAMP)
        super()._modify_request_before_signing(request)  # type: ignore[misc]


def opening_item(batch: BatchRecord) -> Mapping[str, Mapping[str, object]]:
    """A new batch's row, in DynamoDB's typed form; what is not known yet is left out."""
    texts = {
        "batchId": batch.batch_id,
        "kind": "batch",
        "state": batch.state,
        "callingAeTitle": batch.calling_ae_title,
        "calledAeTitle": batch.called_ae_title,
        "openedAt": to_iso(batch.opened_at),
        "datastoreId": batch.datastore_id,
        "owner": batch.owner,
        "leaseExpiresAt": batch.lease_expires_at and to_iso(batch.lease_expires_at),
    }
    counts = ("instance", "imported", "failed", "warning", "duplicate", "nonPrimary")
    return {
        **{name: {"S": str(text)} for name, text in texts.items() if text is not None},
        **{f"{name}Count": {"N": "0"} for name in counts},
        **({"urgent": {"BOOL": True}} if batch.urgent else {}),
    }


def _ours(batch: BatchRecord) -> dict[str, dict[str, str]]:
    return {":open": {"S": str(BatchState.OPEN)}, ":owner": {"S": str(batch.owner)}}


def _connect(signer: _Signer) -> Any:
    config = Config(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        max_pool_connections=_THREADS,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
    )
    client = Session().create_client("dynamodb", config=config)
    signer.attach(client)
    return client


def _unanswered(code: str) -> StoreRefused:
    return StoreRefused(Status.OUT_OF_RESOURCES, f"lease: {code}")
