"""What the receivers make of a day's studies."""

from collections import Counter
from dataclasses import replace

import pytest

from bench.pipeline.hospital import LARGE, SMALL, Association, Study, day
from bench.pipeline.receiver import association_ends, batches, default_limits, mixed_batches
from contract.manifest import CloseReason

LIMITS = default_limits()
SOME = day(replace(SMALL, studies=20), seed=3)


@pytest.mark.parametrize("workers", [1, 2])
def test_every_image_is_in_one_batch(workers: int) -> None:
    found = list(batches(SOME, LIMITS, workers, seed=3))
    assert sum(each.files for each in found) == sum(study.images for study in SOME)
    assert sum(each.size for each in found) == sum(each.images * each.size for each in SOME)
    assert len({each.batch_id for each in found}) == len(found)
    ends = {name for study in SOME for name in association_ends(study)}
    assert {name for each in found for name in each.associations} == ends


def test_a_batch_closes_when_its_last_association_was_quiet() -> None:
    study = Study(0, "CT1", 530_000, (Association(100.0, 10), Association(102.0, 10)))
    (batch,) = batches([study], LIMITS, 1, seed=1)
    end = max(association_ends(study).values())
    assert batch.closed_at == pytest.approx(end + LIMITS.quiet_seconds)
    assert (batch.files, batch.reason) == (20, CloseReason.QUIET)


def test_a_study_sent_with_pauses_makes_a_batch_of_each_association() -> None:
    study = Study(0, "US1", 1_000_000, tuple(Association(25.0 * n, 1) for n in range(8)))
    assert [each.files for each in batches([study], LIMITS, 1, seed=1)] == [1] * 8


def test_a_migrations_batches_are_full_and_within_the_limits() -> None:
    found = list(mixed_batches(day(replace(LARGE, studies=40), seed=1), LIMITS))
    assert found
    assert Counter(each.reason for each in found) == {CloseReason.FULL: len(found)}
    assert all(each.files <= LIMITS.max_files for each in found)
    assert all(each.size <= LIMITS.max_bytes for each in found)
