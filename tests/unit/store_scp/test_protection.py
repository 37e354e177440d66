import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_scp.board import Board
from store_scp.metrics import Gauge, WorkerState
from store_scp.protection import Standing, busy, draining, objection

MINUTES = 10
QUIET = Standing().agreed(False, 0.0, MINUTES)
PROTECTED = Standing().seen(True, 100.0).agreed(True, 100.0, MINUTES)


def test_at_the_start_the_end_of_protection_is_asked_for_since_nobody_knows_what_was() -> None:
    assert Standing().request(0.0) is False


def test_a_task_without_work_asks_for_nothing() -> None:
    assert QUIET.request(1_000_000.0) is None


def test_work_is_protected_at_once_and_once() -> None:
    assert QUIET.seen(True, 100.0).request(100.0) is True
    assert PROTECTED.seen(True, 101.0).request(101.0) is None


def test_protection_is_renewed_at_half_of_its_time_as_long_as_there_is_work() -> None:
    still_busy = PROTECTED.seen(True, 399.0)
    assert still_busy.request(399.9) is None
    assert still_busy.request(400.0) is True
    assert still_busy.agreed(True, 400.0, MINUTES).request(400.0) is None


def test_protection_ends_half_a_minute_after_the_last_work() -> None:
    idle = PROTECTED.seen(False, 101.0)
    assert idle.request(129.9) is None
    assert idle.request(130.0) is False
    assert idle.agreed(False, 130.0, MINUTES).request(131.0) is None


def test_a_sender_that_comes_back_soon_costs_no_request() -> None:
    assert PROTECTED.seen(True, 129.0).request(131.0) is None


def test_refusals_are_asked_again_ever_more_seldom_up_to_a_minute() -> None:
    standing, now, pauses = QUIET.seen(True, 0.0), 0.0, []
    for _ in range(8):
        standing = standing.seen(True, now).refused(now)
        assert standing.request(standing.retry_at - 0.1) is None
        pauses.append(standing.pause)
        now = standing.retry_at
        assert standing.seen(True, now).request(now) is True
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]


def test_consent_ends_the_pauses() -> None:
    agreed = QUIET.seen(True, 0.0).refused(0.0).refused(1.0).agreed(True, 3.0, MINUTES)
    assert (agreed.pause, agreed.retry_at) == (0, -math.inf)


@given(
    st.lists(st.tuples(st.floats(0.1, 400), st.booleans(), st.booleans()), min_size=1, max_size=60)
)
def test_whatever_happens_work_is_asked_to_be_protected_and_idle_tasks_are_let_go(
    steps: list[tuple[float, bool, bool]],
) -> None:
    standing, now = Standing(), 0.0
    for pause, has_work, grants in steps:
        now += pause
        standing = standing.seen(has_work, now)
        wanted = standing.request(now)
        if has_work and standing.protected is not True:
            assert wanted is True or now < standing.retry_at
        if wanted is not None:
            granted = standing.agreed(wanted, now, MINUTES)
            standing = granted if grants else standing.refused(now)
        assert standing.retry_at <= now + 60
    assert standing.agreed(True, now, MINUTES).request(now + 31) is False


@pytest.mark.parametrize("gauge", [Gauge.ASSOCIATIONS_ESTABLISHED, Gauge.BATCHES_OPEN])
def test_an_association_or_a_batch_of_any_worker_is_work(gauge: Gauge) -> None:
    board = Board.create(2, seats=1)
    assert not busy(board.read())
    board.panel(1).adjust(gauge, 1)
    assert busy(board.read())
    board.panel(1).adjust(gauge, -1)
    assert not busy(board.read())


def test_a_connection_that_asks_for_no_association_is_no_work() -> None:
    board = Board.create(1, seats=1)
    board.panel(0).adjust(Gauge.CONNECTIONS_OPEN, 1)
    assert not busy(board.read())


def test_one_worker_that_drains_means_that_the_task_is_being_stopped() -> None:
    board = Board.create(2, seats=1)
    board.panel(0).beat(0.0, WorkerState.READY)
    assert not draining(board.read())
    board.panel(1).beat(0.0, WorkerState.DRAINING)
    assert draining(board.read())


GRANTED = b'{"requestID": "1", "protection": {"ProtectionEnabled": true, "TaskArn": "arn"}}'
BLOCKED = b'{"failure": {"Arn": "arn", "Detail": null, "Reason": "DEPLOYMENT_BLOCKED"}}'
DENIED = b'{"error": {"Arn": "arn", "Code": "AccessDeniedException", "Message": "who are you"}}'


@pytest.mark.parametrize(
    ("wanted", "status", "body", "expected"),
    [
        (True, 200, GRANTED, None),
        (False, 200, GRANTED, "HTTP 200"),
        (True, 200, BLOCKED, "DEPLOYMENT_BLOCKED"),
        (True, 403, DENIED, "AccessDeniedException"),
        (True, 500, GRANTED, "HTTP 500"),
        (True, 200, b"{}", "HTTP 200"),
        (True, 404, b"404 page not found", "HTTP 404"),
        (True, 200, BLOCKED.replace(b"DEPLOYMENT_BLOCKED", b"no word"), "HTTP 200"),
    ],
)
def test_only_the_state_that_was_asked_for_is_consent(
    wanted: bool, status: int, body: bytes, expected: str | None
) -> None:
    assert objection(wanted, status, body) == expected


@given(st.binary(max_size=200))
def test_any_other_answer_is_an_objection(body: bytes) -> None:
    assert objection(True, 200, body) == "HTTP 200"
