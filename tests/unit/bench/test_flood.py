"""A good peer beside hostile ones, measured on the real receiver."""

import io

import pytest
from rich.console import Console

from bench.receiver import flood
from bench.receiver.flood import Flood, flood_table
from bench.receiver.hostile import Hostile
from bench.receiver.peers import OURS_ONE_WORKER, RAW_TCP


@pytest.mark.parametrize("kind", [None, Hostile.TRICKLE])
def test_a_good_peers_images_are_timed_checked_and_counted(
    kind: Hostile | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flood, "_POLL_SECONDS", 0.05)
    found = flood._measure(OURS_ONE_WORKER, kind, 0.5)
    assert found.problem == ""
    assert found.beside == (kind.value if kind else flood.ALONE)
    assert found.latencies
    assert min(found.latencies) > 0
    assert found.probes > 0
    assert (found.refused, found.associations_lost, found.changed) == (0, 0, 0)


def test_a_receiver_that_does_not_serve_is_a_row_that_says_why() -> None:
    found = flood._measure(RAW_TCP, None, 0.1)  # which reads no DICOM
    assert found.problem
    assert not found.latencies


def test_a_table_shows_median_worst_and_what_failed() -> None:
    found = [
        Flood("one", flood.ALONE, (1.0, 3.0, 9.0), probes=5),
        Flood("one", "C-ECHO floods", (2.0,), 1, 2, 5, 4, 3),
        Flood("one", "headers", problem="did not begin"),
    ]
    console = Console(file=io.StringIO(), width=300)
    console.print(flood_table(found, "below"))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    for told in ("3 ", "9 ", "0 of 5", "4 of 5", "all but 3", "did not begin", "below"):
        assert told in shown
