import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_scp.board import Board, Seat, SeatsTaken
from store_scp.metrics import UPLOAD_BOUNDS, Counter, Gauge, WorkerState

REPOSITORY = Path(__file__).parents[3]


def test_a_new_board_is_empty() -> None:
    readings = Board.create(3, seats=5).read()
    assert [each.worker for each in readings] == [0, 1, 2]
    for each in readings:
        assert not any((*each.counters, *each.gauges, *each.uploads, each.upload_seconds))
        assert each.state is WorkerState.STARTING


@given(st.sampled_from([*Counter, *Gauge]), st.integers(0, 2))
def test_every_number_has_its_own_place(which: Counter | Gauge, worker: int) -> None:
    board = Board.create(3, seats=1)
    if isinstance(which, Counter):
        board.panel(worker).add(which, 2**40)
    else:
        board.panel(worker).gauge(which, 2**40)
    for reading in board.read():
        numbers = (*reading.counters, *reading.gauges, *reading.uploads, reading.upload_seconds)
        assert sum(numbers) == (2**40 if reading.worker == worker else 0)
        assert (reading.beat_at, reading.state) == (0.0, WorkerState.STARTING)


def test_counters_add_up_and_gauges_move() -> None:
    board = Board.create(1, seats=1)
    panel = board.panel(0)
    panel.add(Counter.ECHOES)
    panel.add(Counter.ECHOES, 2)
    panel.gauge(Gauge.BATCHES_OPEN, 5)
    panel.adjust(Gauge.BATCHES_OPEN, -2)
    (reading,) = board.read()
    assert reading.counters[Counter.ECHOES] == 3
    assert reading.gauges[Gauge.BATCHES_OPEN] == 3


def test_a_heartbeat_is_read_with_its_state() -> None:
    board = Board.create(2, seats=1)
    board.panel(1).beat(12.5, WorkerState.CONGESTED)
    assert (board.read()[1].beat_at, board.read()[1].state) == (12.5, WorkerState.CONGESTED)


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(0.0, 0), (0.005, 0), (0.0051, 1), (60.0, 12), (61.0, 13)]
)
def test_an_upload_is_counted_up_to_its_bound(seconds: float, bucket: int) -> None:
    board = Board.create(1, seats=1)
    board.panel(0).observe_upload(seconds)
    (reading,) = board.read()
    assert reading.uploads.index(1) == bucket
    assert len(reading.uploads) == len(UPLOAD_BOUNDS) + 1
    assert reading.upload_seconds == seconds


def test_bytes_in_flight_are_summed_over_all_workers() -> None:
    board = Board.create(3, seats=1)
    for worker in range(3):
        board.panel(worker).adjust(Gauge.BYTES_IN_FLIGHT, 10**worker)
    assert board.panel(0).buffered() == 111
    assert board.panel(2).buffered() == 111


def test_a_dead_worker_holds_nothing_and_its_counts_stay() -> None:
    board = Board.create(2, seats=2)
    for worker in range(2):
        panel = board.panel(worker)
        panel.add(Counter.ECHOES)
        panel.gauge(Gauge.CONNECTIONS_OPEN, 4)
        panel.beat(9.0, WorkerState.READY)
        panel.take_seat("CT1", limit=2, group_limit=None)
    board.worker_died(0)
    dead, other = board.read()
    assert (dead.counters[Counter.ECHOES], dead.gauges[Gauge.CONNECTIONS_OPEN]) == (1, 0)
    assert (dead.state, dead.beat_at) == (WorkerState.STARTING, 9.0)
    assert (other.gauges[Gauge.CONNECTIONS_OPEN], other.state) == (4, WorkerState.READY)
    board.panel(0).take_seat("CT1", limit=2, group_limit=2)
    with pytest.raises(SeatsTaken):
        board.panel(0).take_seat("CT1", limit=2, group_limit=None)


def test_no_more_seats_are_taken_than_the_limit() -> None:
    board = Board.create(2, seats=8)
    board.panel(0).take_seat("CT1", limit=2, group_limit=None)
    seat = board.panel(1).take_seat("CT2", limit=2, group_limit=None)
    assert scope_refused(board, "CT3", limit=2, group_limit=None) == "total"
    board.panel(1).leave_seat(seat)
    assert scope_refused(board, "CT3", limit=2, group_limit=None) is None


def test_no_more_seats_are_taken_than_there_are() -> None:
    board = Board.create(1, seats=1)
    assert scope_refused(board, "CT1", limit=5, group_limit=None) is None
    assert scope_refused(board, "CT1", limit=5, group_limit=None) == "total"


def test_a_group_has_its_own_limit_over_all_workers() -> None:
    board = Board.create(2, seats=8)
    seat = board.panel(1).take_seat("CT1", limit=8, group_limit=1)
    assert scope_refused(board, "CT1", limit=8, group_limit=1) == "group"
    assert scope_refused(board, "CT2", limit=8, group_limit=1) is None
    board.panel(1).leave_seat(seat)
    assert scope_refused(board, "CT1", limit=8, group_limit=1) is None


def scope_refused(board: Board, group: str, limit: int, group_limit: int | None) -> str | None:
    try:
        board.panel(0).take_seat(group, limit, group_limit)
    except SeatsTaken as taken:
        return taken.scope
    return None


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from("ABC"), st.booleans())))
def test_the_limits_hold_whatever_comes_and_goes(steps: list[tuple[int, str, bool]]) -> None:
    board = Board.create(3, seats=6)
    seated: list[tuple[int, str, Seat]] = []
    for worker, group, leaves in steps:
        if leaves and seated:
            owner, _, seat = seated.pop(0)
            board.panel(owner).leave_seat(seat)
            continue
        full = len(seated) >= 4 or sum(each[1] == group for each in seated) >= 2
        try:
            seated.append((worker, group, board.panel(worker).take_seat(group, 4, 2)))
        except SeatsTaken:
            assert full
        else:
            assert not full
    assert len({seat.place for _, _, seat in seated}) == len(seated)


# Forks, so it has a process without pytest's threads. Each child takes what it can get.
_RACE = """
import os
from store_scp.board import Board, SeatsTaken
board = Board.create(4, seats=400)
children = []
for worker in range(4):
    pid = os.fork()
    if pid == 0:
        taken = 0
        try:
            while True:
                board.panel(worker).take_seat("CT1", 400, 200)
                taken += 1
        except SeatsTaken:
            os._exit(taken)
    children.append(pid)
print(*(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children))
"""


def test_processes_that_race_for_seats_get_no_more_than_there_are() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _RACE],
        env={"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'scp'}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert sum(map(int, ended.stdout.split())) == 200


def test_without_memfd_the_board_is_a_file_that_no_directory_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    board = Board.create(1, seats=1)
    board.panel(0).add(Counter.ECHOES)
    assert board.read()[0].counters[Counter.ECHOES] == 1
    assert scope_refused(board, "CT1", limit=1, group_limit=None) is None
    assert not list(tmp_path.iterdir())


def test_the_clocks_offset_is_unknown_until_a_worker_says_it_and_again_after_its_death() -> None:
    board = Board.create(2, seats=1)
    assert [each.clock_offset for each in board.read()] == [None, None]
    board.panel(1).clock_offset(-12.5)
    assert [each.clock_offset for each in board.read()] == [None, -12.5]
    board.panel(1).clock_offset(None)
    assert board.read()[1].clock_offset is None
    board.panel(1).clock_offset(0.0)
    assert board.read()[1].clock_offset == 0
    board.worker_died(1)
    assert board.read()[1].clock_offset is None
