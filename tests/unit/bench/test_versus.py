"""A comparison runs the code of the commit it names, and leaves nothing behind."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from bench.receiver import versus
from bench.receiver.errors import BenchError
from bench.receiver.peers import OURS, Peer, Place, base_environment, ours_from
from bench.receiver.rows import Key, Measured, Row, Sink
from bench.receiver.versus import revisions, versus_tables


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=Nobody", "-c", "user.email=nobody@example.org"]
    told = subprocess.run(
        ["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True, text=True
    )
    return told.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a receiver of one line, which says ``new`` and said ``old``."""
    for name in ("contract", "scp/store_scp"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "__init__.py").touch()
    git(tmp_path, "init", "--quiet")
    for said in ("old", "new"):
        (tmp_path / "scp/store_scp/__main__.py").write_text(f"print({said!r})\n")
        git(tmp_path, "add", "--all")
        git(tmp_path, "commit", "--quiet", "--message", said)
    monkeypatch.setattr(versus, "REPOSITORY", tmp_path)
    return tmp_path


def output(peer: Peer, folder: Path) -> str:
    command = peer.command(Place(0, folder, folder, 1, 0))
    environment = base_environment() | command.environment
    return subprocess.run(
        command.arguments, env=environment, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_each_receiver_is_of_its_own_revision(checkout: Path, tmp_path: Path) -> None:
    with revisions("HEAD~1") as (ours, theirs):
        assert (output(ours, tmp_path), output(theirs, tmp_path)) == ("new", "old")
        assert ours.name.startswith("this checkout (")
        assert theirs.name == f"HEAD~1 ({git(checkout, 'rev-parse', 'HEAD~1')[:7]})"


@pytest.mark.parametrize("end", [None, KeyboardInterrupt])
def test_the_worktree_is_gone_at_the_end_and_after_ctrl_c(
    checkout: Path, end: type[BaseException] | None
) -> None:
    try:
        with revisions("HEAD~1"):
            assert len(git(checkout, "worktree", "list").splitlines()) == 2
            if end is not None:
                raise end
    except KeyboardInterrupt:
        pass
    assert len(git(checkout, "worktree", "list").splitlines()) == 1


@pytest.mark.parametrize("commit", ["no-such", "--help", "HEAD~9"])
@pytest.mark.usefixtures("checkout")
def test_an_unknown_commit_is_named(commit: str) -> None:
    with (
        pytest.raises(BenchError, match=f"--vs {commit}: there is no such commit"),
        revisions(commit),
    ):
        pytest.fail("there is none")


def test_without_a_checkout_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versus, "REPOSITORY", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(BenchError, match="needs a git checkout"), revisions("HEAD"):
        pytest.fail("there is none")


def test_a_commit_without_a_receiver_is_refused(checkout: Path) -> None:
    git(checkout, "rm", "-r", "--quiet", "scp")
    git(checkout, "commit", "--quiet", "--message", "none")
    git(checkout, "revert", "--no-edit", "HEAD")
    with pytest.raises(BenchError, match="has no receiver"), revisions("HEAD~1"):
        pytest.fail("there is none")
    assert len(git(checkout, "worktree", "list").splitlines()) == 1


def measured(cpu_seconds: float) -> Measured:
    return Measured(10, 1.0, cpu_seconds, 1, 10, 1_000)


def test_a_table_has_both_medians_both_least_and_the_ratio() -> None:
    peers = ours_from(Path("a"), "a"), ours_from(Path("b"), "b")
    rows = [
        Row(Key("ct", Sink.DIRECTORY, "a", 1), tuple(measured(each) for each in (3.0, 1.0, 2.0))),
        Row(Key("ct", Sink.DIRECTORY, "b", 1), tuple(measured(each) for each in (4.0, 5.0, 6.0))),
        Row(Key("ct", Sink.S3_HTTP, "a", 1), (measured(1.0),)),
        Row(Key("ct", Sink.S3_HTTP, "b", 1), problem="did not listen"),
    ]
    console = Console(file=io.StringIO(), width=300)
    for table in versus_tables(rows, peers, "below"):
        console.print(table)
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    numbers = ("200.000", "100.000", "500.000", "400.000", "0.40x", "1.00x")
    assert all(each in shown for each in numbers)
    assert "did not listen" in shown
    assert "below" in shown


def test_this_python_runs_both() -> None:
    assert ours_from(Path("a"), "a").program == OURS.program == sys.executable
