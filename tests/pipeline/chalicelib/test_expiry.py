"""What DynamoDB may delete, and when (TTL): sent events and what operators asked for."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from chalicelib import aws, wiring
from chalicelib.events.event import EventType, an_event
from chalicelib.operations import setup
from chalicelib.operations.journal import Entry, numbered
from chalicelib.stores.outbox import Due
from chalicelib.stores.schema import EXPIRES_AT
from chalicelib.stores.table import Table

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
LATER = NOW + timedelta(days=7)
BATCH = "20261123T093000Z-0001020304050607"


def item(key: str) -> dict[str, Any]:
    found = Table(aws.dynamodb(), "DicomBatchRecordTable").get({"batchId": key})
    assert found is not None
    return found


def seconds(moment: datetime, days: int) -> int:
    return int((moment + timedelta(days=days)).timestamp())


@pytest.mark.usefixtures("_aws")
def test_an_event_expires_once_it_was_sent_and_never_before() -> None:
    outbox = wiring.outbox()
    key = outbox.keep(an_event(EventType.STUDY_QUIET, "1.2", NOW, studyInstanceUID="1.2"))
    assert EXPIRES_AT not in item(key)
    outbox.sent(key, LATER)
    assert item(key)[EXPIRES_AT] == seconds(LATER, 30)
    assert list(outbox.due(Due.EVENT, LATER)) == []


@pytest.mark.usefixtures("_aws")
def test_the_first_request_for_the_same_is_the_last_to_expire() -> None:
    """They are read from the first one on."""
    journal = setup.journal()
    first = Entry("retry:x", BATCH, "why", NOW)
    assert journal.begin(first) == first
    assert item("retry:x")[EXPIRES_AT] == seconds(NOW, 400)
    second = Entry(numbered("retry:x", 2), BATCH, "again", LATER)
    assert journal.begin(second) == second
    assert item("retry:x#2")[EXPIRES_AT] == seconds(LATER, 400)
    assert item("retry:x")[EXPIRES_AT] == seconds(LATER, 407)
    assert journal.get("retry:x") == first


@pytest.mark.usefixtures("_aws")
def test_a_retention_of_0_days_is_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JOURNAL_RETENTION_DAYS", "EVENT_RETENTION_DAYS"):
        monkeypatch.setenv(name, "0")
    wiring.settings.cache_clear()
    outbox, journal = wiring.outbox(), setup.journal()
    key = outbox.keep(an_event(EventType.STUDY_QUIET, "1.2", NOW, studyInstanceUID="1.2"))
    outbox.sent(key, LATER)
    for number in (1, 2):
        journal.begin(Entry(numbered("retry:x", number), BATCH, "why", NOW))
    for each in (key, "retry:x", "retry:x#2"):
        assert EXPIRES_AT not in item(each)
    wiring.settings.cache_clear()
