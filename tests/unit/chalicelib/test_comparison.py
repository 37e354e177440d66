"""Comparing objects: what one invocation has time for, and what none ever has."""

from collections import Counter
from dataclasses import dataclass, field, replace

import pytest
from chalicelib.imports import comparison
from chalicelib.imports.comparison import Comparison, Pair, Verdict
from chalicelib.stores.memory import MemoryObjects
from chalicelib.stores.memory_files import MemoryFiles

from contract.checksums import Checksum
from contract.records import InstanceRecord, InstanceState
from tests.unit.chalicelib.builders import (
    BATCH,
    BUCKET,
    NEWER_BATCH,
    NOW,
    an_instance,
    instance_row,
    remove,
)

BODY = b"ten bytes."
SAME, OTHER_BYTES, UNKNOWN, LATER = Verdict
DIGEST = str(Checksum.of(BODY))


@dataclass(frozen=True)
class CountedFiles(MemoryFiles):
    """Counts how often each object is read."""

    reads: Counter[str] = field(default_factory=Counter)

    def digest_of_both(self, key: str, other: str) -> Checksum | None:
        self.reads.update((key, other))
        return MemoryFiles.digest_of_both(self, key, other)

    def digest(self, key: str) -> Checksum:
        self.reads[key] += 1
        return MemoryFiles.digest(self, key)


@pytest.fixture
def files() -> CountedFiles:
    return CountedFiles(MemoryObjects(), BUCKET)


def a_row(files: MemoryFiles, key: str, batch_id: str = BATCH) -> InstanceRecord:
    """Of ten bytes, which are there."""
    files.put(key, BODY)
    row = instance_row(batch_id, an_instance("1.2.3.1"), InstanceState.RECEIVED, NOW)
    return replace(row, key=key, size=len(BODY))


def others(files: MemoryFiles, count: int) -> list[InstanceRecord]:
    return [a_row(files, f"other{number}", NEWER_BATCH) for number in range(count)]


def test_what_does_not_fit_into_this_invocation_is_compared_in_a_later_one(
    files: CountedFiles,
) -> None:
    rows = [a_row(files, f"row{number}") for number in range(3)]
    pairs = [*map(Pair, rows, others(files, 3))]
    assert Comparison(files, left=25).of(pairs) == [SAME, SAME, LATER]
    assert Comparison(files, left=25).of(pairs[2:]) == [SAME]


@pytest.mark.parametrize("gone", ["other0", "elsewhere"])
def test_an_invocation_leaves_what_it_cannot_compare_with_a_digest_to_be_named_by(
    files: CountedFiles, gone: str
) -> None:
    row, (other,) = a_row(files, "row"), others(files, 1)
    remove(files, [gone])
    if gone == "elsewhere":
        other = replace(other, datastore_id="2" * 32)
    comparing = Comparison(files, left=10)
    assert comparing.of([Pair(row, other)]) == [UNKNOWN]
    assert comparing.digest(row) == DIGEST
    assert files.reads["row"] <= 2
    assert gone == "other0" or "other0" not in files.reads


def test_an_instance_with_more_rows_than_any_invocation_can_compare_does_not_wait_for_ever(
    files: CountedFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "MAX_BYTES", 25)
    row = a_row(files, "row")
    pairs = [Pair(row, other) for other in others(files, 4)]
    assert Comparison(files, left=25).of(pairs) == [SAME, SAME, UNKNOWN, UNKNOWN]


def test_an_object_is_read_once_however_many_digests_it_is_compared_with(
    files: CountedFiles,
) -> None:
    row = a_row(files, "row")
    named = [replace(other, beside=f"SHA256:{other.key}") for other in others(files, 3)]
    pairs = [Pair(row, other) for other in (*named, replace(named[0], key="x", beside=DIGEST))]
    verdicts = Comparison(files, left=10).of(pairs)
    assert verdicts == [OTHER_BYTES, OTHER_BYTES, OTHER_BYTES, SAME]
    assert files.reads == {"row": 1}


def test_an_object_that_is_too_large_to_be_read_is_not_read(
    files: CountedFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "MAX_BYTES", len(BODY) - 1)
    comparing, row = Comparison(files), a_row(files, "row")
    assert comparing.of([Pair(row, other) for other in others(files, 1)]) == [UNKNOWN]
    assert comparing.digest(row) is None
    assert not files.reads


def test_a_pair_is_read_once_and_the_digest_of_the_same_bytes_is_known_by_then(
    files: CountedFiles,
) -> None:
    pairs = [Pair(a_row(files, "row"), other) for other in others(files, 1)]
    comparing = Comparison(files, left=10)
    assert comparing.of(pairs) == comparing.of(pairs) == [SAME]
    assert comparing.digest(pairs[0].row) == DIGEST
    assert files.reads == {"row": 1, "other0": 1}
