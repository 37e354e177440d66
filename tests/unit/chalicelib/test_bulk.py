"""What DynamoDB leaves unprocessed is asked for again, with pauses, and not for ever."""

from types import SimpleNamespace
from typing import Any

import pytest
from chalicelib.errors import ServiceUnavailable
from chalicelib.stores import bulk

ROWS = [{"sopInstanceUID": {"S": f"1.2.{number}"}} for number in range(60)]


class StingyDynamoDB:
    """Processes one item a call at most ``calls`` times, then everything."""

    def __init__(self, calls: int) -> None:
        self.calls = calls

    def _process(self, items: list[Any]) -> tuple[list[Any], list[Any]]:
        self.calls -= 1
        cut = 1 if self.calls >= 0 else len(items)
        return items[:cut], items[cut:]

    def batch_get_item(self, RequestItems: dict[str, Any]) -> dict[str, Any]:  # noqa: N803
        done, left = self._process(RequestItems["table"]["Keys"])
        unprocessed = {"table": RequestItems["table"] | {"Keys": left}} if left else {}
        return {"Responses": {"table": done}, "UnprocessedKeys": unprocessed}


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    pauses: list[float] = []
    monkeypatch.setattr(bulk, "time", SimpleNamespace(sleep=pauses.append))
    return pauses


def test_everything_is_read_in_the_end(pauses: list[float]) -> None:
    client: Any = StingyDynamoDB(6)
    assert sorted(map(str, bulk.get_all(client, "table", ROWS))) == sorted(map(str, ROWS))
    assert pauses
    assert max(pauses) <= 12.8


def test_one_call_pauses_not_at_all(pauses: list[float]) -> None:
    client: Any = StingyDynamoDB(0)
    assert bulk.get_all(client, "table", ROWS[:5]) == ROWS[:5]
    assert bulk.get_all(client, "table", []) == []
    assert pauses == []


def test_what_is_never_processed_may_work_later() -> None:
    client: Any = StingyDynamoDB(10_000)
    with pytest.raises(ServiceUnavailable):
        bulk.get_all(client, "table", ROWS[:25])
