"""The simulation's own invariants: nothing is lost, nothing is taken for granted."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict, replace

import pytest
from structlog.testing import capture_logs

from bench.pipeline.account import ADMISSION
from bench.pipeline.assumptions import ImportDuration, Timing
from bench.pipeline.hospital import SMALL, day
from bench.pipeline.ledger import ledger_units
from bench.pipeline.machine import DEFINITION
from bench.pipeline.per_image import Storm, arrivals, best_starts, storm
from bench.pipeline.pipeline import Pipeline
from bench.pipeline.receiver import ClosedBatch, renamed
from bench.pipeline.scenarios import hospital_day, long_queue
from contract.manifest import CloseReason
from contract.records import BatchState

TINY = replace(SMALL, name="tiny", studies=15)
SHORT = ImportDuration(seconds_per_job=20.0, seconds_per_file=0.0)
RULE = json.loads(DEFINITION.read_text())["States"]["StartImportJob"]["Retry"][1]


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    with capture_logs():
        yield


def burst(count: int, files: int = 100) -> list[ClosedBatch]:
    batch = ClosedBatch("", 0.0, "CT1", files, files * 530_000, CloseReason.QUIET, ())
    return [renamed(batch, number, number / 10) for number in range(count)]


def test_every_image_of_a_day_is_imported_and_the_same_seed_is_the_same_day() -> None:
    found = hospital_day(TINY, seed=7)
    counted = found.counted
    assert counted.images == counted.imported == found.day.images > 0
    assert counted.start_calls == counted.jobs + counted.starts_throttled + counted.over_quota
    assert found.imported[-1] <= found.day.images
    assert list(found.imported) == sorted(found.imported)
    assert found.started_on_the_day <= counted.jobs
    assert asdict(hospital_day(TINY, seed=7)) == asdict(found)
    assert asdict(hospital_day(TINY, seed=8)) != asdict(found)


def test_a_burst_is_imported_at_the_services_pace_without_a_quota_in_between() -> None:
    pipeline = Pipeline(SHORT, Timing(), 1)
    pipeline.run(burst(80))
    assert pipeline.tally.ended == {BatchState.IMPORTED: 80}
    starts = sorted(pipeline.jobs.started_at.values())
    assert all(later - earlier > 9 - 2 for earlier, later in zip(starts, starts[9:], strict=False))
    assert not pipeline.machine.transitions["RecordFailure"]


def test_starts_above_the_quota_are_throttled_by_the_emulators_code_and_all_come_through() -> None:
    fast = ADMISSION.model_copy(update={"start_rate": 5.0})
    pipeline = Pipeline(SHORT, Timing(), 1, fast)
    pipeline.run(burst(60))
    assert pipeline.jobs.throttled["StartDICOMImportJob"] > 60
    assert pipeline.machine.transitions["StartImportJob (retry)"] > 30
    assert pipeline.tally.images == {BatchState.IMPORTED: 6_000}


def test_a_job_over_a_limit_fails_and_is_recorded() -> None:
    pipeline = Pipeline(SHORT, Timing(), 1)
    pipeline.run(burst(1, files=5_001))
    assert pipeline.tally.ended == {BatchState.FAILED: 1}


def test_more_jobs_at_once_than_the_quota_are_never_tried() -> None:
    slow = ImportDuration(seconds_per_job=400.0, seconds_per_file=0.0)
    pipeline = Pipeline(slow, Timing(), 1)
    pipeline.run(burst(130))
    assert (pipeline.jobs.most_live, pipeline.jobs.over_quota) == (100, 0)
    assert pipeline.tally.ended == {BatchState.IMPORTED: 130}


@pytest.mark.parametrize(
    ("waiting", "ramp", "share"),
    [
        (450, 150.0, 0.8),
        # Several seconds: its queue is still long after a quarter of an hour.
        pytest.param(1_600, 900.0, 0.85, marks=pytest.mark.exhaustive),
    ],
)
def test_a_modality_does_not_wait_behind_a_long_queue(
    waiting: int, ramp: float, share: float
) -> None:
    found = long_queue(waiting, ImportDuration(95.0, 0.0), 240.0, seed=1, ramp=ramp)
    assert found.modality_wait[1] < 20
    assert found.share > share


def test_an_image_costs_the_ledger_two_writes_and_two_reads() -> None:
    units = ledger_units()
    # Each write is one in the table and one in its index; rows are below 1 KB.
    assert (units.write, units.read) == (2 * 2, 2)


def test_one_job_per_image_never_starts_more_than_the_quota_allows() -> None:
    starts = best_starts(arrivals(day(TINY, seed=7)))
    tenth = zip(starts, starts[10:], strict=False)
    assert all(later - earlier >= 10 - 2 for earlier, later in tenth)
    assert all(earlier <= later for earlier, later in itertools.pairwise(starts))


@pytest.mark.parametrize("seconds", [600, 3_600])
def test_every_execution_of_a_storm_has_started_or_waits(seconds: int) -> None:
    images = [number / 10 for number in range(1_500)]
    found = storm(images, RULE, seconds)
    assert found.started + found.waiting == len(images)
    assert found.throttled > len(images)
    # The quota lets one start each second, and one more at once.
    assert found.started == min(seconds + 1, len(images))


def test_no_execution_is_refused_where_images_come_far_apart() -> None:
    assert storm([80.0 * number for number in range(45)], RULE, 3_600) == Storm(45, 0, 0)


@pytest.mark.exhaustive  # each second of a day, twice
def test_every_execution_of_a_days_storm_has_started_or_waits() -> None:
    images = arrivals(day(TINY, seed=7))
    found = storm(images, RULE)
    assert found.started + found.waiting == len(images)
    assert found.throttled > len(images)
    assert storm([80.0 * number for number in range(1_000)], RULE).throttled == 0
