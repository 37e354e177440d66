"""One DynamoDB table, read and written as plain maps of attributes."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.exceptions import ClientError

from chalicelib.aws import error_code, mapped_errors
from chalicelib.errors import ServiceUnavailable
from chalicelib.stores.bulk import get_all
from chalicelib.stores.schema import EXPIRES_AT

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef


# How many keys one request of a list reads: a page of 100 takes one request, with the key at its
# cursor and the one behind it, and the 500 keys that a filtered page may look at take four.
KEYS_PER_REQUEST = 128
# An item or a key, a condition, and the condition's ``:name`` values.
Conditional = tuple[Mapping[str, Any], str, Mapping[str, Any]]


class Table:
    """One table, read and written as plain maps."""

    def __init__(self, client: "DynamoDBClient", name: str) -> None:
        self.client = client
        self.name = name

    def get(self, key: dict[str, str]) -> dict[str, Any] | None:
        """The item, or None."""
        with mapped_errors():
            # A state written by one Lambda is read by the next: never from a stale replica.
            answer = self.client.get_item(
                TableName=self.name, Key=serialize(key), ConsistentRead=True
            )
        return deserialize(answer["Item"]) if "Item" in answer else None

    def get_many(self, keys: Sequence[dict[str, str]]) -> list[dict[str, Any]]:
        """The items that exist, in no order; the keys must differ."""
        return [
            deserialize(item) for item in get_all(self.client, self.name, [*map(serialize, keys)])
        ]

    def put(self, item: Mapping[str, Any], condition: str = "", **values: Any) -> bool:
        """Put, on a condition whose ``:name`` values and ``#state`` are filled in; False if not."""
        return self._on_condition(
            self.client.put_item, {"Item": serialize(item)}, condition, values
        )

    def delete(self, key: dict[str, str], condition: str = "", **values: Any) -> bool:
        """The same for a deletion."""
        return self._on_condition(
            self.client.delete_item, {"Key": serialize(key)}, condition, values
        )

    def transact(
        self,
        put: Conditional,
        *,
        delete: Conditional | None = None,
        check: Conditional | None = None,
    ) -> bool:
        """An item is put, and another deleted or checked, each on its condition; or nothing is.

        False if a condition does not hold. Raises ServiceUnavailable.
        """
        requests: Any = [
            {kind: {"TableName": self.name, part: serialize(each[0]), **_condition(*each[1:])}}
            for kind, part, each in (
                ("Put", "Item", put),
                ("Delete", "Key", delete),
                ("ConditionCheck", "Key", check),
            )
            if each is not None
        ]
        return write_together(self.client, requests)

    def _on_condition(
        self,
        call: Callable[..., object],
        request: dict[str, Any],
        condition: str,
        values: Mapping[str, Any],
    ) -> bool:
        try:
            with mapped_errors():
                call(TableName=self.name, **request, **_condition(condition, values))
        except ClientError as error:
            if error_code(error) == "ConditionalCheckFailedException":
                return False
            raise
        return True

    def update(
        self,
        key: dict[str, str],
        item: Mapping[str, Any],
        gone: Sequence[str],
        condition: str,
        values: Mapping[str, Any],
    ) -> bool:
        """Set and remove attributes on a condition with ``:name`` values; False if not."""
        item = {name: value for name, value in item.items() if name not in gone}
        names = {f"#{name}": name for name in (*item, *gone)}
        # The condition's own name; DynamoDB refuses one that nothing uses.
        names |= {"#state": "state"} if "#state" in condition else {}
        expression = f"SET {', '.join(f'#{name} = :{name}' for name in item)}"
        if gone:
            expression += f" REMOVE {', '.join(f'#{name}' for name in gone)}"
        return self.change(
            key,
            expression,
            {**item, **values},
            ConditionExpression=condition,
            ExpressionAttributeNames=names,
        )

    def change(
        self, key: dict[str, str], expression: str, values: Mapping[str, Any], **arguments: Any
    ) -> bool:
        """An update as DynamoDB writes it, with ``:name`` values; False if its condition fails."""
        try:
            with mapped_errors():
                self.client.update_item(
                    TableName=self.name,
                    Key=serialize(key),
                    UpdateExpression=expression,
                    ExpressionAttributeValues=serialize(
                        {f":{name}": value for name, value in values.items()}
                    ),
                    **arguments,
                )
        except ClientError as error:
            if error_code(error) == "ConditionalCheckFailedException":
                return False
            raise
        return True

    def keys(
        self, partition: tuple[str, str], sort: str, bounds: tuple[str, str], **arguments: Any
    ) -> Iterator[str]:
        """The sort keys of a partition (its key and value) within bounds, the last one first.

        Few at a time, as they are consumed: who lists them shows a page, and an answer without a
        limit reads and bills up to 1 MB of them. ``bounds`` are low and high, both inclusive.
        Raises ServiceUnavailable.
        """
        name, value = partition
        low, high = bounds
        if low > high:  # DynamoDB refuses such a BETWEEN
            return
        found = self.query(
            KeyConditionExpression="#partition = :value AND #sort BETWEEN :low AND :high",
            ExpressionAttributeNames={"#partition": name, "#sort": sort},
            ScanIndexForward=False,
            Limit=KEYS_PER_REQUEST,
            values={":value": value, ":low": low, ":high": high},
            **arguments,
        )
        for item in found:
            yield str(item[sort])

    def query(self, **arguments: Any) -> Iterator[dict[str, Any]]:
        """All items of a query, page after page, as they are consumed."""
        for page in self.pages(**arguments):
            yield from (deserialize(item) for item in page["Items"])

    def pages(self, **arguments: Any) -> Iterator[Mapping[str, Any]]:
        """All answers of a query."""
        values = serialize(arguments.pop("values"))
        start: dict[str, Any] = {}
        while True:
            with mapped_errors():
                answer = self.client.query(
                    TableName=self.name, ExpressionAttributeValues=values, **arguments, **start
                )
            yield answer
            if "LastEvaluatedKey" not in answer:
                return
            start = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}


def write_together(
    client: "DynamoDBClient", requests: Sequence["TransactWriteItemTypeDef"]
) -> bool:
    """All of the requests, of any tables, or none; False if the condition of one fails.

    Raises ServiceUnavailable, also where no condition failed: another write was in the way.
    """
    try:
        with mapped_errors():
            client.transact_write_items(TransactItems=requests)
    except ClientError as error:
        if error_code(error) != "TransactionCanceledException":
            raise
        response: Any = error.response
        reasons = [each.get("Code") for each in response.get("CancellationReasons", [])]
        if "ConditionalCheckFailed" not in reasons:
            raise ServiceUnavailable("DynamoDB cancelled a transaction") from error
        return False
    return True


def _condition(condition: str, values: Mapping[str, Any]) -> dict[str, Any]:
    arguments: dict[str, Any] = {"ConditionExpression": condition} if condition else {}
    if values:
        arguments["ExpressionAttributeValues"] = serialize(
            {f":{name}": value for name, value in values.items()}
        )
    if "#state" in condition:
        arguments["ExpressionAttributeNames"] = {"#state": "state"}
    return arguments


def expires(now: datetime, retention: timedelta | None) -> dict[str, int]:
    """The attribute by which DynamoDB deletes an item once ``retention`` is over; None is never.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/TTL.html
    """
    return {} if retention is None else {EXPIRES_AT: math.ceil((now + retention).timestamp())}


def serialize(item: Mapping[str, Any]) -> dict[str, Any]:
    """A plain map in DynamoDB's typed form."""
    # A StrEnum is a str to everyone but boto3's serializer.
    serializer = TypeSerializer()
    return {
        name: serializer.serialize(str(value) if isinstance(value, str) else value)
        for name, value in item.items()
    }


def deserialize(item: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of :func:`serialize`; numbers come back as Decimal."""
    deserializer = TypeDeserializer()
    return {name: deserializer.deserialize(value) for name, value in item.items()}
