"""The sample: the same for a seed, with a share for each room and a turn for each operator."""

from collections import Counter
from pathlib import Path

import pytest

from tests.mutants.finder import Mutant, mutants
from tests.mutants.sample import chosen, product_files, shares

REPOSITORY = Path(__file__).parents[3]
FUNCTIONS = "\n".join(f"def f{n}(x):\n    g(x)\n    return x + {n} < 9" for n in range(20))
EVERYTHING = {
    "large": mutants("large.py", FUNCTIONS),
    "small": mutants("small.py", "def f(x):\n    return x < 7 and not x"),
}


def test_the_same_seed_is_the_same_sample_and_another_is_another() -> None:
    assert chosen(EVERYTHING, 1, 20) == chosen(EVERYTHING, 1, 20)
    assert chosen(EVERYTHING, 1, 20) != chosen(EVERYTHING, 2, 20)


def test_a_sample_repeats_nothing_and_has_every_operator() -> None:
    found = chosen(EVERYTHING, 1, 12)
    assert len({each.key for each in found}) == len(found) == 12
    in_large = [each for each in found if each.path == "large.py"]
    assert {each.operator for each in in_large} == {each.operator for each in EVERYTHING["large"]}
    assert max(Counter(each.scope for each in in_large).values()) == 1


def test_a_change_elsewhere_leaves_most_of_the_sample() -> None:
    changed = {"large": mutants("large.py", f"{FUNCTIONS}\ndef new(x):\n    return x and 3")}
    before = _keys(chosen({"large": EVERYTHING["large"]}, 1, 10))
    assert len(before & _keys(chosen(changed, 1, 10))) >= 7


def _keys(found: list[Mutant]) -> set[str]:
    return {each.key for each in found}


@pytest.mark.parametrize("count", [1, 10, 60, 61])
def test_the_shares_of_the_rooms_are_the_whole(count: int) -> None:
    found = shares({"a": 5_000, "b": 3_000, "c": 10}, count)
    assert sum(found.values()) == count
    assert found["a"] >= found["b"] >= found["c"] >= count * 8 // 100


def test_the_rooms_have_every_file_of_the_product() -> None:
    files = product_files(REPOSITORY)
    assert all(files.values())
    assert "chalice_app/app.py" in files["lambdas"]
    assert "local/healthimaging/jobs.py" in files["local"]
