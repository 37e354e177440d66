"""DynamoDB's BatchGetItem: chunks in a few threads, what was left unprocessed asked for again."""

import random
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from chalicelib.aws import mapped_errors
from chalicelib.errors import ServiceUnavailable
from chalicelib.threads import in_threads

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html
READS_PER_CALL = 100
# 0.1 s doubling to 12.8 s, half of it on average; after that Step Functions waits, and longer.
_ATTEMPTS = 9
_FIRST_DELAY_SECONDS = 0.05

Item = dict[str, Any]


def get_all(client: "DynamoDBClient", table: str, keys: Sequence[Item]) -> list[Item]:
    """The items that exist, in no order; the keys must differ. Raises ServiceUnavailable."""
    chunks = [keys[start : start + READS_PER_CALL] for start in range(0, len(keys), READS_PER_CALL)]
    found = in_threads(partial(_get, client, table), chunks)
    return [item for items in found for item in items]


def _get(client: "DynamoDBClient", table: str, keys: Sequence[Item]) -> list[Item]:
    found: list[Item] = []
    request: Any = {table: {"Keys": keys, "ConsistentRead": True}}
    for attempt in range(_ATTEMPTS):
        if attempt:  # full jitter: the threads must not come back together
            time.sleep(random.uniform(0, _FIRST_DELAY_SECONDS * 2**attempt))  # noqa: S311
        with mapped_errors():
            answer = client.batch_get_item(RequestItems=request)
        found += answer["Responses"].get(table, [])
        request = answer.get("UnprocessedKeys")
        if not request:
            return found
    raise ServiceUnavailable("DynamoDB left items of a batch unprocessed")
