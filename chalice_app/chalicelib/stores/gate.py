"""The gate that starts of imports go through, one dispatcher at a time.

It is one item of the batch table, without a ``state`` and so in no index: its conditional writes
are the lock, and what it remembers is the pace that all Lambdas of the account share.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from botocore.exceptions import ClientError

from chalicelib.aws import error_code, mapped_errors
from chalicelib.stores.table import deserialize, serialize
from contract.times import from_iso, to_iso

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# No batch id.
_KEY = "admission"
# Entered again where the holder left between the two calls that found the gate held.
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Gate:
    """What one dispatcher leaves to the next.

    ``asked`` counts those who came while the gate was held: its holder must look again before it
    leaves. ``next_start`` is the pace's (``intake.admission``), ``recent`` the calling AE titles of
    the latest starts.
    """

    asked: int = 0
    next_start: datetime | None = None
    recent: tuple[str, ...] = ()


class GateStore(Protocol):
    """The gate. ``holder`` is an invocation's own name."""

    def enter(self, holder: str, now: datetime, until: datetime) -> Gate | None:
        """Hold the gate at most ``until``; None, and counted in ``asked``, if another does."""
        ...

    def keep(self, holder: str, gate: Gate, until: datetime) -> bool:
        """Write pace and ``recent`` and go on holding; False if it was taken over meanwhile."""
        ...

    def leave(self, holder: str, asked: int | None = None) -> bool:
        """Let the next one in; False if the gate is not held or was asked for since ``asked``."""
        ...


class DynamoGate:
    """A GateStore."""

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self._client = client
        self._name = table

    def enter(self, holder: str, now: datetime, until: datetime) -> Gate | None:
        """See GateStore."""
        for _ in range(_ATTEMPTS):
            found = self._update(
                "SET holder = :me, heldUntil = :until, asked = if_not_exists(asked, :none)",
                "attribute_not_exists(holder) OR holder = :me OR heldUntil < :now",
                {":me": holder, ":until": to_iso(until), ":now": to_iso(now), ":none": 0},
            )
            if found is not None:
                return _gate(found)
            asked = self._update("ADD asked :one", None, {":one": 1}) or {}
            if asked.get("heldUntil", "") >= to_iso(now):
                break
        return None

    def keep(self, holder: str, gate: Gate, until: datetime) -> bool:
        """See GateStore."""
        values = {":me": holder, ":until": to_iso(until), ":recent": list(gate.recent)}
        expression = "SET heldUntil = :until, recent = :recent"
        if gate.next_start is not None:
            values[":next"] = to_iso(gate.next_start)
            expression += ", nextStartAt = :next"
        return self._update(expression, "holder = :me", values) is not None

    def leave(self, holder: str, asked: int | None = None) -> bool:
        """See GateStore."""
        values: dict[str, Any] = {":me": holder}
        condition = "holder = :me"
        if asked is not None:
            values[":asked"] = asked
            condition += " AND asked = :asked"
        return self._update("REMOVE holder, heldUntil", condition, values) is not None

    def _update(
        self, expression: str, condition: str | None, values: dict[str, Any]
    ) -> dict[str, Any] | None:
        """The item afterwards, or None where the condition does not hold."""
        arguments: dict[str, Any] = {"ConditionExpression": condition} if condition else {}
        try:
            with mapped_errors():
                answer = self._client.update_item(
                    TableName=self._name,
                    Key=serialize({"batchId": _KEY}),
                    UpdateExpression=expression,
                    ExpressionAttributeValues=serialize(values),
                    ReturnValues="ALL_NEW",
                    **arguments,
                )
        except ClientError as error:
            if error_code(error) == "ConditionalCheckFailedException":
                return None
            raise
        return deserialize(answer["Attributes"])


def _gate(item: dict[str, Any]) -> Gate:
    next_start = from_iso(item["nextStartAt"]) if "nextStartAt" in item else None
    return Gate(int(item["asked"]), next_start, tuple(item.get("recent", ())))
