"""DynamoDB's batch calls: chunks in a few threads, what was left unprocessed asked for again."""

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from chalicelib.aws import mapped_errors
from chalicelib.errors import ServiceUnavailable

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchWriteItem.html
_WRITES_PER_CALL = 25
# https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html
_READS_PER_CALL = 100
# 4,500 rows are 180 calls of some 20 ms. botocore's pool holds 10 connections by default.
_THREADS = 8
# 0.1 s doubling to 12.8 s, half of it on average; after that Step Functions waits, and longer.
_ATTEMPTS = 9
_FIRST_DELAY_SECONDS = 0.05

Item = dict[str, Any]
# One call: the items read, and the request for those left unprocessed.
_Call = Callable[[Any], tuple[Sequence[Item], Any]]


def put_all(client: "DynamoDBClient", table: str, rows: Sequence[Item]) -> None:
    """Put every row, or raise ServiceUnavailable; some may then have been put."""

    def call(request: Any) -> tuple[Sequence[Item], Any]:
        with mapped_errors():
            answer = client.batch_write_item(RequestItems=request)
        return (), answer.get("UnprocessedItems")

    puts = [{"PutRequest": {"Item": row}} for row in rows]
    _run(call, [{table: chunk} for chunk in _chunks(puts, _WRITES_PER_CALL)])


def get_all(client: "DynamoDBClient", table: str, keys: Sequence[Item]) -> list[Item]:
    """The items that exist, in no order; the keys must differ. Raises ServiceUnavailable."""

    def call(request: Any) -> tuple[Sequence[Item], Any]:
        with mapped_errors():
            answer = client.batch_get_item(RequestItems=request)
        return answer["Responses"].get(table, []), answer.get("UnprocessedKeys")

    requests = [
        {table: {"Keys": chunk, "ConsistentRead": True}} for chunk in _chunks(keys, _READS_PER_CALL)
    ]
    return _run(call, requests)


def _run(call: _Call, requests: Sequence[Mapping[str, Any]]) -> list[Item]:
    if len(requests) <= 1:  # most batches of a modality: no threads for one call
        return [item for request in requests for item in _complete(call, request)]
    with ThreadPoolExecutor(min(_THREADS, len(requests))) as threads:
        return [item for found in threads.map(partial(_complete, call), requests) for item in found]


def _complete(call: _Call, request: Any) -> list[Item]:
    found: list[Item] = []
    for attempt in range(_ATTEMPTS):
        if attempt:  # full jitter: the threads must not come back together
            time.sleep(random.uniform(0, _FIRST_DELAY_SECONDS * 2**attempt))  # noqa: S311
        items, request = call(request)
        found.extend(items)
        if not request:
            return found
    raise ServiceUnavailable("DynamoDB left items of a batch unprocessed")


def _chunks(rows: Sequence[Item], size: int) -> Iterable[Sequence[Item]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))
