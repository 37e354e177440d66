"""Leases in the batch table: conditional writes to DynamoDB, each in a thread.

A few calls a minute for each open batch, so botocore's cost does not matter; it may wait for the
network or for credentials, though, and so never runs on the event loop.

botocore signs with the system's clock and never corrects it. So the requests are signed here, at
AWS's time, as every answer's ``Date`` tells it (``server_time.py``).

The attributes are those of ``chalicelib.stores.items``, which reads them.
"""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Any, Protocol

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ClientError
from botocore.handlers import disable_signing
from botocore.session import Session

from contract.records import BatchRecord, BatchState
from contract.times import to_iso
from store_scp.clocks import ServerClock
from store_scp.dimse.status import Status
from store_scp.errors import StoreRefused
from store_scp.s3.credentials import expire_by
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
_WRONG_TIMES = ("InvalidSignatureException", "RequestExpired")
# Where an answer contradicts all before it, a second must confirm it.
_NEW_TIMES = 2
_ASKED_AT = "store_scp_asked_at"
# A repeated request of ours whose first answer was lost finds our own record.
_NEW_OR_OURS = "attribute_not_exists(batchId) OR (#state = :open AND #owner = :owner)"
_OURS = "#state = :open AND #owner = :owner"
_NAMES = {"#state": "state", "#owner": "owner"}


class LeaseStore(Protocol):
    """Where leases are written; both raise StoreRefused where there is no answer."""

    async def take(self, batch: BatchRecord) -> bool:
        """Write a new batch's record, with its owner and lease; False if another has it."""
        ...

    async def renew(self, batch: BatchRecord, expires_at: datetime) -> bool:
        """Put the lease's end off; False if the batch is not open or not its owner's any more."""
        ...

    def close(self) -> None:
        """Nothing is asked after this."""
        ...


class DynamoLeases:
    """A LeaseStore; its client is made in the background, which takes a moment."""

    def __init__(self, table: str, clock: ServerClock) -> None:
        self._table = table
        self._threads = ThreadPoolExecutor(_THREADS, "leases")
        signer = _Signer(clock, asyncio.get_running_loop())
        self._client: Future[Any] = self._threads.submit(_connect, signer)

    async def take(self, batch: BatchRecord) -> bool:
        """See LeaseStore."""
        return await self._ask(
            lambda client: client.put_item(
                TableName=self._table,
                Item=opening_item(batch),
                ConditionExpression=_NEW_OR_OURS,
                ExpressionAttributeNames=_NAMES,
                ExpressionAttributeValues=_ours(batch),
            )
        )

    async def renew(self, batch: BatchRecord, expires_at: datetime) -> bool:
        """See LeaseStore."""
        return await self._ask(
            lambda client: client.update_item(
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
        )

    def close(self) -> None:
        """See LeaseStore."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _ask(self, request: Callable[[Any], object]) -> bool:
        loop = asyncio.get_running_loop()
        for _ in range(_NEW_TIMES):
            with suppress(_SignedAtAnotherTime):
                return await loop.run_in_executor(self._threads, self._granted, request)
        return await loop.run_in_executor(self._threads, self._granted, request)

    def _granted(self, request: Callable[[Any], object]) -> bool:
        """In a thread."""
        try:
            request(self._client.result())
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "ClientError")
            if code == _CONDITION_FAILED:
                return False
            if code in _WRONG_TIMES:
                raise _SignedAtAnotherTime(Status.OUT_OF_RESOURCES, f"lease: {code}") from None
            raise _unanswered(code) from None
        except BotoCoreError as error:
            raise _unanswered(type(error).__name__) from None
        return True


class _SignedAtAnotherTime(StoreRefused):
    """DynamoDB does not accept the signature; it may accept one of the time that it told."""


class _Signer:
    """Signs a client's requests at AWS's time, and reads that from its answers."""

    def __init__(self, clock: ServerClock, loop: asyncio.AbstractEventLoop) -> None:
        self._clock = clock
        self._loop = loop

    def attach(self, client: Any, credentials: Credentials | None) -> None:
        """Sign for the client from now on, in place of botocore."""
        expire_by(self._clock.expiry_time, credentials)

        def sign(request: AWSRequest, region_name: str, **_: object) -> None:
            request.context[_ASKED_AT] = self._clock.steady()
            frozen = credentials and credentials.get_frozen_credentials()
            _TimedAuth(
                frozen, client.meta.service_model.signing_name, region_name, self._clock
            ).add_auth(request)

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
    session = Session()
    client = session.create_client("dynamodb", config=config)
    signer.attach(client, session.get_credentials())
    return client


def _unanswered(code: str) -> StoreRefused:
    return StoreRefused(Status.OUT_OF_RESOURCES, f"lease: {code}")
