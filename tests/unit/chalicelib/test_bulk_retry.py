"""Retries of all batches in a state, over the in-memory twins."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError, NoCredentialsError
from chalicelib.api.batch_pages import BatchQuery
from chalicelib.api.batch_pages import page as batch_page
from chalicelib.api.parameters import key_cursor
from chalicelib.aws import mapped_errors
from chalicelib.errors import ServiceUnavailable
from chalicelib.imports.aside import failed_key, move_all
from chalicelib.operations.bulk_retry import Selection, Summary, retry_all
from chalicelib.operations.repeat import Operations
from chalicelib.operations.retry import retry_batch
from chalicelib.stores import Stores
from chalicelib.stores.memory import MemoryBatches

from contract.keys import manifest_key
from contract.records import BatchState, InstanceState
from tests.unit.chalicelib.builders import (
    BUCKET,
    NOW,
    a_batch,
    a_manifest,
    an_instance,
    files_of,
    instance_row,
    keep_metadata,
    memory_stores,
    overwrite,
)
from tests.unit.chalicelib.repeat_desk import WHY, Desk

IDS = [f"20261123T09{30 + number}00Z-0001020304050607" for number in range(5)]
FAILED = BatchQuery(BatchState.FAILED)


def failed_batches() -> Stores:
    """Of one failed instance each, and each an hour after the one before; CT0 and CT1 in turn."""
    stores = memory_stores()
    assert isinstance(stores.batches, MemoryBatches)
    for number, batch_id in enumerate(IDS):
        only = an_instance(f"1.2.3.{number}", batch_id)
        manifest = replace(a_manifest(batch_id=batch_id), instances=(only,))
        files_of(stores).put(manifest_key(batch_id), manifest.to_json())
        stores.objects.bodies[BUCKET, only.key] = b"x"  # type: ignore[attr-defined]
        keep_metadata(stores, only)
        row = instance_row(batch_id, only, InstanceState.FAILED, NOW, job_id="j", reason="why")
        overwrite(stores.instances, [replace(row, key=failed_key(only.key))])
        move_all(files_of(stores), [only.key], failed_key, "why")
        stores.batches.rows[batch_id] = replace(
            a_batch(BatchState.FAILED, batch_id),
            calling_ae_title=f"CT{number % 2}",
            ended_at=NOW + timedelta(hours=number),
        )
    return stores


@pytest.fixture
def desk() -> Desk:
    return Desk(stores=failed_batches())


def run(desk: Desk, *, told: list[str] | None = None, **selection: Any) -> Summary:
    chosen = Selection(**({"query": FAILED} | selection))
    return retry_all(chosen, WHY, desk.operations, (told if told is not None else []).append)


def ids(summary: Summary, name: str) -> list[str]:
    return [each["batchId"] for each in summary.to_json().get(name, [])]


def test_every_batch_is_retried_newest_first_with_a_line_for_each(desk: Desk) -> None:
    told: list[str] = []
    summary = run(desk, told=told)
    assert (summary.is_good, ids(summary, "done")) == (True, IDS[::-1])
    made = [each["newBatchId"] for each in summary.to_json()["done"]]
    lines = enumerate(zip(IDS[::-1], made, strict=True), start=1)
    assert told == [f"{number} {old} done: {new}" for number, (old, new) in lines]
    assert {desk.state(each) for each in made} == {BatchState.CLOSED}


def test_a_batch_that_is_refused_and_one_that_fails_stop_no_other(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = replace(desk.row("1.2.3.3"), state=InstanceState.IMPORTED)
    overwrite(desk.stores.instances, [imported])
    faults = {IDS[1]: ServiceUnavailable("S3 is away"), IDS[2]: KeyError("DOE^JOHN")}

    def sometimes(batch_id: str, *rest: Any, **options: Any) -> Any:
        if batch_id in faults:
            raise faults[batch_id]
        return retry_batch(batch_id, *rest, **options)

    monkeypatch.setattr("chalicelib.operations.bulk_retry.retry_batch", sometimes)
    told: list[str] = []
    summary = run(desk, told=told)
    assert not summary.is_good
    assert ids(summary, "done") == [IDS[4], IDS[0]]
    assert ids(summary, "refused") == [IDS[3]]
    assert ids(summary, "failed") == [IDS[2], IDS[1]]
    assert "DOE" not in str(summary.to_json()) + str(told)
    faults.clear()
    later = later_operations(desk, timedelta(minutes=5))
    again = retry_all(Selection(FAILED), WHY, later, told.append)
    assert (ids(again, "done"), ids(again, "doneBefore")) == ([IDS[2], IDS[1]], [IDS[4], IDS[0]])


@pytest.mark.parametrize("is_before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("calls", [1, 3])
def test_a_run_that_is_interrupted_goes_on_at_its_cursor_and_makes_each_batch_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, calls: int, is_before: bool
) -> None:
    """Ctrl-C before a batch's retry, or behind it and before that is recorded."""
    left = iter(range(calls - 1, -1, -1))

    def interrupted(*arguments: Any, **options: Any) -> Any:
        is_last = next(left) == 0
        if is_last and is_before:
            raise KeyboardInterrupt
        entry = retry_batch(*arguments, **options)
        if is_last:
            raise KeyboardInterrupt
        return entry

    monkeypatch.setattr("chalicelib.operations.bulk_retry.retry_batch", interrupted)
    first = run(desk)
    assert (first.is_good, ids(first, "done")) == (False, IDS[::-1][: calls - 1])
    assert first.to_json()["stopped"] == "interrupted"
    monkeypatch.undo()
    given = {"cursor": first.next_cursor} if first.next_cursor else {}
    selection = Selection(FAILED, cursor=key_cursor(given))
    second = retry_all(selection, WHY, later_operations(desk, timedelta(minutes=5)), print)
    again = [] if is_before else [IDS[::-1][calls - 1]]
    assert ids(second, "doneBefore") == again
    assert ids(first, "done") + again + ids(second, "done") == IDS[::-1]
    assert len(desk.journal.entries) == len(IDS)


def refusal(code: str, operation: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, operation)


def expired() -> Exception:
    try:
        with mapped_errors():
            raise refusal("ExpiredTokenException", "GetItem")
    except ServiceUnavailable as error:
        return error


@pytest.mark.parametrize(
    "fault",
    [expired(), refusal("UnrecognizedClientException", "GetItem"), NoCredentialsError()],
    ids=["expired", "unknown", "none"],
)
def test_credentials_that_aws_does_not_take_end_the_run_with_its_cursor(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def fails(batch_id: str, *rest: Any, **options: Any) -> Any:
        if batch_id == IDS[2]:
            raise fault
        return retry_batch(batch_id, *rest, **options)

    monkeypatch.setattr("chalicelib.operations.bulk_retry.retry_batch", fails)
    summary = run(desk)
    assert (ids(summary, "done"), ids(summary, "failed")) == ([IDS[4], IDS[3]], [])
    assert str(summary.stopped).endswith(("Exception", "Exception: no", "credentials"))
    assert key_cursor({"cursor": str(summary.next_cursor)}) == IDS[3]


def test_what_aws_refuses_of_one_batch_stops_no_other(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(batch_id: str, *rest: Any, **options: Any) -> Any:
        if batch_id == IDS[2]:
            raise refusal("AccessDenied", "GetObject")
        return retry_batch(batch_id, *rest, **options)

    monkeypatch.setattr("chalicelib.operations.bulk_retry.retry_batch", fails)
    summary = run(desk)
    assert summary.to_json()["failed"] == [
        {"batchId": IDS[2], "why": "AWS refuses GetObject: AccessDenied: no"}
    ]
    assert (summary.to_json()["doneCount"], summary.stopped) == (4, None)


def later_operations(desk: Desk, by: timedelta) -> Callable[[], Operations]:
    def made() -> Operations:
        known = desk.operations()
        return replace(known, imports=replace(known.imports, now=known.imports.now + by))

    return made


def test_a_limit_is_gone_on_from_by_its_cursor(desk: Desk) -> None:
    found, cursor = [], None
    for _ in range(3):
        summary = run(desk, limit=2, cursor=cursor)
        found.append(ids(summary, "done"))
        following = summary.to_json().get("nextCursor")
        cursor = key_cursor({"cursor": following}) if following else None
    assert found == [[IDS[4], IDS[3]], [IDS[2], IDS[1]], [IDS[0]]]
    assert cursor is None


def test_a_selection_is_by_sender_and_by_the_time_of_the_end(desk: Desk) -> None:
    hour = timedelta(hours=1)
    one = run(desk, query=BatchQuery(BatchState.FAILED, "CT1"), since=NOW + 2 * hour)
    assert ids(one, "done") == [IDS[3]]
    two = run(desk, since=NOW + hour, until=NOW + 2 * hour)
    assert ids(two, "done") == [IDS[2], IDS[1]]


@pytest.mark.parametrize(
    "fault",
    [
        ServiceUnavailable("Query failed: ThrottlingException"),
        refusal("ExpiredTokenException", "Query"),
        NoCredentialsError(),
    ],
    ids=["away", "refused", "none"],
)
def test_a_list_that_cannot_be_read_on_ends_the_run_with_what_it_has_done(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def page(store: Any, query: Any, limit: int, cursor: str | None) -> Any:
        if cursor is not None:
            raise fault
        return batch_page(store, query, 2, cursor)

    monkeypatch.setattr("chalicelib.operations.bulk_retry.batch_page", page)
    summary = run(desk)
    assert (summary.is_good, ids(summary, "done")) == (False, [IDS[4], IDS[3]])
    assert summary.to_json()["stopped"]
    assert key_cursor({"cursor": summary.to_json()["nextCursor"]}) == IDS[3]
