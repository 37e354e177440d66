"""The event bus: ten events a call, and those that it did not take once more."""

import json
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from chalicelib.aws import mapped_errors
from chalicelib.errors import ServiceUnavailable
from chalicelib.events.event import SOURCE, Event
from chalicelib.threads import in_threads

# Ten events of ours are below the 256 KB that a request may have.
# https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html
ENTRIES_PER_CALL = 10
# 0.1 s doubling to 0.8 s, half of it on average; after that, the next minute.
_ATTEMPTS = 5
_FIRST_DELAY_SECONDS = 0.05


class Bus(Protocol):
    """Where events go."""

    def send(self, events: Sequence[Event]) -> None:
        """Send them all, or raise ServiceUnavailable; some may then have been sent."""
        ...


class EventsClient(Protocol):
    """What is used of boto3's client."""

    def put_events(self, *, Entries: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:  # noqa: N803
        """``Entries`` in the answer are in the order of the request's."""
        ...


class EventBridge:
    """A Bus."""

    def __init__(self, client: EventsClient, name: str) -> None:
        self._client = client
        self._name = name

    def send(self, events: Sequence[Event]) -> None:
        """See Bus."""
        in_threads(self._send, list(_chunks([self._entry(event) for event in events])))

    def _send(self, entries: Sequence[Mapping[str, Any]]) -> None:
        codes: set[str] = set()
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(random.uniform(0, _FIRST_DELAY_SECONDS * 2**attempt))  # noqa: S311
            with mapped_errors():
                answer = self._client.put_events(Entries=entries)
            results = list(zip(entries, answer["Entries"], strict=True))
            entries = [entry for entry, result in results if "ErrorCode" in result]
            if not entries:
                return
            codes = {result["ErrorCode"] for _, result in results if "ErrorCode" in result}
        raise ServiceUnavailable(f"EventBridge did not take all events: {', '.join(sorted(codes))}")

    def _entry(self, event: Event) -> dict[str, Any]:
        return {
            "EventBusName": self._name,
            "Source": SOURCE,
            "DetailType": str(event.type),
            "Time": event.occurred_at,
            "Detail": json.dumps(event.detail),
        }


def _chunks(entries: Sequence[Mapping[str, Any]]) -> Iterator[Sequence[Mapping[str, Any]]]:
    for start in range(0, len(entries), ENTRIES_PER_CALL):
        yield entries[start : start + ENTRIES_PER_CALL]
