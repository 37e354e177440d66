import ast
from pathlib import Path

import pytest
import store_scp
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import CollectorRegistry
from store_scp.board import Board
from store_scp.metrics import UPLOAD_BOUNDS, Counter, Gauge, WorkerState, families


def collect(board: Board, now: float = 0.0) -> dict[str, Metric]:
    return {metric.name: metric for metric in families(board.read(), now)}


def value(found: dict[str, Metric], sample: str, **labels: str) -> float:
    (only,) = [
        each.value
        for metric in found.values()
        for each in metric.samples
        if (each.name, each.labels) == (sample, labels)
    ]
    return float(only)


def test_a_counters_number_is_its_place_in_the_table() -> None:
    assert list(map(int, Counter)) == list(range(len(Counter)))
    assert list(map(int, Gauge)) == list(range(len(Gauge)))


def test_no_two_members_are_the_same_series() -> None:
    series = [(each.family.name, each.label) for each in (*Counter, *Gauge)]
    assert len(set(series)) == len(series)
    labelled = [each for each in (*Counter, *Gauge) if each is not Counter.WORKER_RESTARTS]
    assert all(bool(each.label) == bool(each.family.label) for each in labelled)


def test_counters_and_gauges_are_summed_over_the_workers() -> None:
    board = Board.create(2, seats=1)
    for worker in range(2):
        board.panel(worker).add(Counter.INSTANCES_STORED, 3)
        board.panel(worker).add(Counter.BYTES_STORED, 100)
        board.panel(worker).gauge(Gauge.ASSOCIATIONS_ESTABLISHED, 4)
    found = collect(board)
    assert value(found, "store_scp_instances_total", result="stored") == 6
    assert value(found, "store_scp_stored_bytes_total") == 200
    assert value(found, "store_scp_established_associations") == 8
    assert value(found, "store_scp_open_connections") == 0


def test_every_member_is_exposed_once() -> None:
    board = Board.create(1, seats=1)
    for number, counter in enumerate(Counter, 1):
        board.panel(0).add(counter, 1000 + number)
    for number, gauge in enumerate(Gauge, 1):
        board.panel(0).gauge(gauge, 2000 + number)
    values = [each.value for metric in collect(board).values() for each in metric.samples]
    expected = {1000 + n for n, _ in enumerate(Counter, 1)} | {
        2000 + n for n, _ in enumerate(Gauge, 1)
    }
    assert sorted(each for each in values if each > 1000) == sorted(expected)


def test_upload_buckets_are_cumulative_and_end_with_all() -> None:
    board = Board.create(2, seats=1)
    board.panel(0).observe_upload(0.02)
    board.panel(1).observe_upload(0.02)
    board.panel(1).observe_upload(100.0)
    found = collect(board)
    bucket = "store_scp_upload_seconds_bucket"
    assert value(found, bucket, le="0.01") == 0
    assert value(found, bucket, le="0.025") == 2
    assert value(found, bucket, le=str(UPLOAD_BOUNDS[-1])) == 2
    assert value(found, bucket, le="+Inf") == 3
    assert value(found, "store_scp_upload_seconds_count") == 3
    assert value(found, "store_scp_upload_seconds_sum") == pytest.approx(100.04)


def test_heartbeats_and_restarts_are_told_for_each_worker() -> None:
    board = Board.create(2, seats=1)
    board.panel(0).beat(10.0, WorkerState.READY)
    board.panel(1).beat(12.0, WorkerState.DRAINING)
    board.panel(1).add(Counter.WORKER_RESTARTS)
    found = collect(board, now=11.0)
    age = "store_scp_worker_heartbeat_age_seconds"
    assert value(found, age, worker="0") == 1.0
    # Another process beat after this one had read the clock.
    assert value(found, age, worker="1") == 0.0
    assert value(found, "store_scp_worker_restarts_total", worker="0") == 0
    assert value(found, "store_scp_worker_restarts_total", worker="1") == 1
    assert value(found, "store_scp_workers", state="ready") == 1
    assert value(found, "store_scp_workers", state="starting") == 0


def test_no_family_clashes_with_another() -> None:
    board = Board.create(1, seats=1)

    class Once:
        def collect(self) -> list[Metric]:
            return list(collect(board).values())

        def describe(self) -> list[Metric]:
            return self.collect()

    # The library refuses a name that comes twice, suffixes included.
    registry = CollectorRegistry()
    registry.register(Once())
    assert len(list(registry.collect())) == len(list(families(board.read(), 0.0)))


def test_each_workers_clock_offset_is_exposed_once_it_is_known() -> None:
    board = Board.create(2, seats=1)
    assert collect(board)["store_scp_clock_offset_seconds"].samples == []
    board.panel(1).clock_offset(-3.5)
    found = collect(board)
    assert value(found, "store_scp_clock_offset_seconds", worker="1") == -3.5
    assert len(found["store_scp_clock_offset_seconds"].samples) == 1


PRODUCT = Path(store_scp.__file__).parent


def test_every_counter_and_gauge_is_counted_somewhere() -> None:
    """What no code counts would be told as 0 for ever, as if nothing ever happened."""
    counted = {
        (node.value.id, node.attr)
        for path in PRODUCT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        # where it is left out of a sum, or its place is computed, it is not counted
        if path.name not in ("metrics.py", "board.py", "emf.py")
    }
    members = {(type(each).__name__, each.name) for each in (*Counter, *Gauge)}
    assert members - counted == set()


def test_the_first_certificates_end_is_exposed_where_there_is_a_certificate() -> None:
    board = Board.create(1, seats=1)
    name = "store_scp_certificate_expires_seconds"
    assert collect(board)[name].samples == []
    found = {each.name: each for each in families(board.read(), 0.0, -3.5)}
    assert value(found, name) == -3.5
