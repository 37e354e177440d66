"""Two revisions of this receiver under one load: this checkout's, and that of a commit."""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.table import Table

from bench.receiver.errors import BenchError
from bench.receiver.machine import revision
from bench.receiver.peers import REPOSITORY, Peer, Place, base_environment, ours_from
from bench.receiver.report import new_table
from bench.receiver.rows import Key, Measured, Row

_GIT_SECONDS = 60.0


@contextmanager
def revisions(commit: str) -> Iterator[tuple[Peer, Peer]]:
    """This checkout's receiver as it is now, and a commit's, whose files are there until the end.

    Raises BenchError if there is no git, no checkout, no such commit, or no receiver in it.
    """
    digest = _resolve(commit)
    with TemporaryDirectory(prefix="store-scp-bench-") as folder:
        tree = Path(folder) / "revision"
        _git("worktree", "add", "--quiet", "--detach", str(tree), digest)
        try:
            ours = ours_from(REPOSITORY, f"this checkout ({revision(REPOSITORY)})")
            theirs = ours_from(tree, f"{commit} ({digest[:7]})")
            _check_runs_its_own_code(theirs, tree)
            yield ours, theirs
        finally:
            _git("worktree", "remove", "--force", str(tree))


def versus_tables(rows: Sequence[Row], peers: tuple[Peer, Peer], below: str) -> Iterator[Table]:
    """A table for each set of images."""
    for image_set, group in groupby(rows, lambda row: row.key.image_set):
        by_key = {row.key: row for row in group}
        table = new_table(f"{image_set}: {peers[0].name} over {peers[1].name}", below)
        table.add_column("to")
        for name in ("associations", "CPU ms/image", "minimum", "theirs", "minimum",
                     "ratio", "images/s", "stored as sent"):  # fmt: skip
            table.add_column(name, justify="right")
        for key, row in by_key.items():
            if key.peer == peers[0].name:
                other = Key(key.image_set, key.sink, peers[1].name, key.associations)
                table.add_row(str(key.sink), str(key.associations), *_cells(row, by_key[other]))
        yield table


def _cells(one: Row, other: Row) -> list[str]:
    """Ours, theirs, and ours as a multiple of theirs; or why there is none."""
    ours, theirs = one.measured, other.measured
    if ours is None or theirs is None:
        return [one.problem or other.problem, *["-"] * 6]
    costs = [
        f"{each.cpu_ms:.3f}" for each in (ours, one.least, theirs, other.least) if each is not None
    ]
    kept = all(_is_kept(each) for each in (ours, theirs))
    ratios = [f"{ours.cpu_ms / theirs.cpu_ms:.2f}x", f"{ours.rate / theirs.rate:.2f}x"]
    return [*costs, *ratios, "all" if kept else "not all"]


def _is_kept(measured: Measured) -> bool:
    return measured.identical == measured.images


def _resolve(commit: str) -> str:
    if shutil.which("git") is None:
        raise BenchError("--vs needs git, which is not installed")
    try:
        _git("rev-parse", "--git-dir")
    except BenchError:
        raise BenchError("--vs needs a git checkout, which this folder is not") from None
    try:
        return _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{commit}^{{commit}}")
    except BenchError:
        raise BenchError(f"--vs {commit}: there is no such commit in this checkout") from None


def _check_runs_its_own_code(peer: Peer, tree: Path) -> None:
    """What an interpreter imports with the peer's settings is the commit's."""
    command = peer.command(Place(0, tree, tree, 1, 0))
    environment = base_environment() | command.environment
    code = "import contract, store_scp; print(contract.__file__); print(store_scp.__file__)"
    # Python looks into the folder it is started in first, so not in a checkout.
    told = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=tree.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    paths = told.stdout.split("\n")[:-1]
    if told.returncode or not all(Path(each).is_relative_to(tree) for each in paths):
        raise BenchError(f"{peer.name} has no receiver that this Python can start")


def _git(*arguments: str) -> str:
    """What git prints; raises BenchError with what it complains of."""
    # A session of its own: Ctrl-C must not stop it while it removes the files.
    told = subprocess.run(
        ["git", "-C", str(REPOSITORY), *arguments],
        capture_output=True,
        text=True,
        timeout=_GIT_SECONDS,
        check=False,
        start_new_session=True,
    )
    if told.returncode:
        raise BenchError(f"git {arguments[0]}: {told.stderr.strip() or told.returncode}")
    return told.stdout.strip()
