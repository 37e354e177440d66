"""What fails is named and skipped, and its neighbours go on."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from botocore.exceptions import ClientError
from chalicelib.errors import ObjectDenied, ServiceUnavailable
from chalicelib.events.event import EventType
from chalicelib.isolation import Isolation
from chalicelib.stores.blocked import (
    Blocked,
    BlockedStore,
    MemoryBlocked,
    Work,
    failed_again,
    listed,
    of_batch,
)
from chalicelib.stores.memory import MemoryBatches
from chalicelib.stores.outbox import Due, MemoryOutbox
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.chalicelib.builders import BATCH, NEWER_BATCH, NOW

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
STUDY = "1.2.840.99"


def raising(error: Exception) -> Callable[[], str]:
    def do() -> str:
        raise error

    return do


DENIED = raising(ObjectDenied("GetObject: InvalidObjectState"))


class Runs:
    """Runs over one store, each at its own time."""

    def __init__(self, work: Work = Work.RECOVERY) -> None:
        self.work = work
        self.records: BlockedStore = MemoryBlocked()
        self.outbox = MemoryOutbox(MemoryBatches())

    def at(self, now: datetime) -> Isolation:
        return Isolation(self.work, self.records, self.outbox, lambda: now)

    @property
    def blocked(self) -> list[str]:
        return [record.subject for record in listed(self.records, Work)]

    @property
    def events(self) -> list[tuple[str, str]]:
        keys = self.outbox.due(Due.EVENT, NOW + 99 * DAY)
        found = (self.outbox.event(key) for key in keys)
        return [(each.type, each.detail["subject"]) for each in found if each]


def test_a_failure_is_recorded_and_told_once_and_its_neighbour_is_done() -> None:
    runs = Runs()
    run = runs.at(NOW)
    assert [run.attempt(BATCH, DENIED), run.attempt(NEWER_BATCH, lambda: "done")] == [None, "done"]
    run.finish()
    later = NOW + MINUTE
    runs.at(later).attempt(BATCH, DENIED)
    assert runs.records.get(Work.RECOVERY, BATCH) == Blocked(
        Work.RECOVERY, BATCH, "ObjectDenied", "GetObject: InvalidObjectState",
        NOW, later, later + MINUTE, 2,
    )  # fmt: skip
    assert runs.events == [(EventType.WORK_BLOCKED, BATCH)]


def test_what_is_blocked_is_skipped_until_its_next_try_and_forgotten_when_it_succeeds() -> None:
    runs = Runs()
    runs.at(NOW).attempt(BATCH, DENIED)
    assert not runs.at(NOW + timedelta(seconds=59)).is_due(BATCH)
    run = runs.at(NOW + MINUTE)
    assert run.is_due(BATCH)
    assert run.due() == [BATCH]
    run.succeeded(BATCH)
    assert runs.blocked == []


def test_what_is_gone_is_forgotten_and_what_was_skipped_is_not() -> None:
    runs = Runs()
    for subject in (BATCH, NEWER_BATCH):
        runs.at(NOW).attempt(subject, DENIED)
    run = runs.at(NOW)
    assert not run.is_due(NEWER_BATCH)
    run.forget_others()
    assert runs.blocked == [NEWER_BATCH]


@pytest.mark.parametrize("answers_others", [True, False])
def test_what_aws_does_not_answer_is_recorded_without_an_event_and_in_an_outage_not_at_all(
    answers_others: bool,
) -> None:
    runs = Runs()
    for minute in range(3):
        run = runs.at(NOW + minute * MINUTE)
        assert run.is_due(BATCH)
        assert run.attempt(BATCH, raising(ServiceUnavailable("GetObject failed"))) is None
        if answers_others:
            assert run.attempt(NEWER_BATCH, lambda: "done") == "done"
        with pytest.raises(ServiceUnavailable, match="recovery: 1 subjects were put off"):
            run.finish()
    assert (runs.blocked, runs.events) == ([BATCH] if answers_others else [], [])


@pytest.mark.parametrize("call", ["get", "put"])
def test_a_record_that_cannot_be_read_or_written_stops_nobody(call: str) -> None:
    def broken(*_: object) -> None:
        raise KeyError("work")

    runs = Runs()
    setattr(runs.records, call, broken)
    assert runs.at(NOW).attempt(BATCH, DENIED) is None


def test_the_event_is_kept_though_the_record_is_not() -> None:
    """In the other order, a crash between the two would lose the event."""
    runs = Runs()

    def away(_: Blocked) -> None:
        raise ServiceUnavailable("PutItem failed")

    runs.records.put = away  # type: ignore[assignment, method-assign]
    runs.at(NOW).attempt(BATCH, DENIED)
    assert runs.events == [(EventType.WORK_BLOCKED, BATCH)]


@pytest.mark.parametrize(
    ("error", "reason", "why"),
    [
        (KeyError("DOE^JANE"), "KeyError", "raising.<locals>.do:"),
        (
            ClientError({"Error": {"Code": "MethodNotAllowed", "Message": "DOE"}}, "GetObject"),
            "ClientError",
            "GetObject: MethodNotAllowed",
        ),
    ],
)
def test_a_record_never_has_the_text_of_an_unexpected_error(
    error: Exception, reason: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = Runs()
    runs.at(NOW).attempt(BATCH, raising(error))
    (record,) = listed(runs.records, Work)
    assert (record.reason, record.why[: len(why)]) == (reason, why)
    assert "DOE" not in f"{record}{runs.events}{capsys.readouterr().out}"


def test_a_study_is_named_in_the_record_and_in_no_log_and_announced_to_nobody(
    capsys: pytest.CaptureFixture[str],
) -> None:
    runs = Runs(Work.ANNOUNCEMENT)
    runs.at(NOW).attempt(STUDY, DENIED)
    assert (runs.blocked, runs.events) == ([STUDY], [])
    logged = capsys.readouterr().out
    assert "work_blocked" in logged
    assert STUDY not in logged


def test_a_failure_that_cannot_be_recorded_stops_nobody() -> None:
    class Away(MemoryBlocked):
        def put(self, record: Blocked) -> None:
            raise ServiceUnavailable("PutItem failed")

    runs = Runs()
    runs.records = Away()
    run = runs.at(NOW)
    assert run.attempt(BATCH, DENIED) is None
    run.finish()


@given(
    st.sampled_from(Work),
    st.lists(st.timedeltas(timedelta(0), 3 * DAY), min_size=1, max_size=20),
)
def test_the_pauses_grow_to_an_hour_or_a_day_and_there_is_always_a_next_try(
    work: Work, gaps: list[timedelta]
) -> None:
    longest = DAY if work is Work.EXPIRY else HOUR
    known, now = None, NOW
    for number, gap in enumerate(gaps, start=1):
        now += gap
        known = failed_again(known, Blocked(work, BATCH, "x", "y", now, now, now))
        pause = known.next_try_at - now
        assert MINUTE <= pause <= longest
        assert pause >= min(now - known.since, longest)
        assert (known.since, known.tries) == (NOW + gaps[0], number)


def test_all_that_is_blocked_of_a_batch_is_found() -> None:
    store = MemoryBlocked()
    one = Blocked(Work.RECOVERY, BATCH, "x", "y", NOW, NOW, NOW)
    another = replace(one, work=Work.EXPIRY)
    for record in (one, another, replace(one, subject=NEWER_BATCH)):
        store.put(record)
    assert of_batch(BATCH, store) == [another, one]
