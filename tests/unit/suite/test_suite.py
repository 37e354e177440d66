"""The parts of make test: together they are every test, and their end says what happened."""

from collections.abc import Sequence
from pathlib import Path

from tests.distribution import ONE_BY_ONE, TOGETHER
from tests.suite import PARTS, ROOT, Outcome, outcomes, summary

REPORT = """<testsuites><testsuite>
<testcase classname="t.a" name="test_one" time="1.5"/>
<testcase classname="t.a" name="test_two" time="0.5"><failure message="no">E</failure></testcase>
<testcase classname="t.b" name="test_three" time="0.1"><skipped message="no openssl"/></testcase>
<testcase classname="t.b" name="test_four" time="9.0"><error message="no">E</error></testcase>
</testsuite></testsuites>"""


def test_every_test_file_is_in_one_part_and_what_is_marked_alone_in_its_own() -> None:
    *several, alone = PARTS
    for path in (ROOT / "tests").rglob("test_*.py"):
        name = path.relative_to(ROOT)
        assert sum(_within(name, part.folders) for part in several) == 1, name
        if "pytest.mark.alone" in path.read_text() and path != Path(__file__):
            assert _within(name, alone.folders), name


def _within(name: Path, folders: Sequence[str]) -> bool:
    return any(name.is_relative_to(folder) for folder in folders)


def test_the_files_that_are_distributed_otherwise_exist() -> None:
    assert [name for name in {*TOGETHER, *ONE_BY_ONE} if not (ROOT / name).exists()] == []


def test_what_runs_alone_runs_in_one_process_and_nowhere_else() -> None:
    *several, alone = PARTS
    assert not any("numprocesses" in word for word in alone.command(everything=True, coverage=True))
    for part in several:
        assert "not alone and not image" in part.command(everything=True, coverage=False)
    assert "alone and not image and not exhaustive" in alone.command(
        everything=False, coverage=False
    )


def test_a_report_tells_how_each_test_ended() -> None:
    one, two, three, four = outcomes(REPORT)
    assert one == Outcome("t.a::test_one", 1.5, "passed")
    assert (two.state, four.state) == ("failed", "failed")
    assert three == Outcome("t.b::test_three", 0.1, "skipped", "no openssl")


def test_the_end_names_the_slowest_what_was_skipped_and_the_time() -> None:
    many = [Outcome(f"t::{number}", float(number), "passed") for number in range(20)]
    ended = {"computing": 0, "waiting": -9}
    lines = summary([*many, *outcomes(REPORT)], 125.4, ended).splitlines()
    assert [line.split()[-1] for line in lines[2:12]] == [f"t::{n}" for n in range(19, 9, -1)]
    assert lines[12:] == [
        "Skipped: t.b::test_three: no openssl",
        "The part 'waiting' ended with pytest's exit code -9.",
        "It took 2 min 5 s.",
        "21 passed, 2 failed, 1 skipped",
    ]
