"""What ``make`` passes on to the command line: names of files as they are."""

import os
import subprocess
from pathlib import Path

import pytest

from local.names import REPOSITORY


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A virtual environment that make finds installed; its python prints its arguments."""
    folder = tmp_path / "environment"
    (folder / "bin").mkdir(parents=True)
    python = folder / "bin" / "python"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    (folder / ".local").touch()
    return folder


def make(environment: Path, where: Path, *arguments: str) -> list[str]:
    command = ["make", "--no-print-directory", "-f", str(REPOSITORY / "Makefile")]
    # Where the test runs, nothing is to be installed.
    for name in ("requirements", "pyproject.toml"):
        if not (where / name).exists():
            (where / name).symlink_to(REPOSITORY / name)
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [*command, f"VENV={environment}", *arguments],
        cwd=where, env=kept, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        ("a folder with spaces", ["a folder with spaces"]),
        ("it's one", ["it's one"]),
        ("`x`.dcm", ["`x`.dcm"]),
        ("1.dcm 2.dcm", ["1.dcm", "2.dcm"]),
        ("1.dcm 'a folder with spaces'", ["1.dcm", "a folder with spaces"]),
        ("?.dcm", ["1.dcm", "2.dcm"]),
        ("gone", ["gone"]),
        ("", []),
    ],
)
def test_files_are_one_name_as_it_stands_or_several(
    tmp_path: Path, environment: Path, given: str, passed: list[str]
) -> None:
    where = tmp_path / "here"
    where.mkdir()
    for name in ("a folder with spaces", "it's one", "`x`.dcm", "1.dcm", "2.dcm"):
        (where / name).touch()
    assert make(environment, where, "send", f"FILES={given}") == ["-m", "local", "send", *passed]


def test_samples_are_one_name(tmp_path: Path, environment: Path) -> None:
    demo = ["-m", "local", "demo", "--samples"]
    assert make(environment, tmp_path, "demo") == [*demo, "pydicom"]
    assert make(environment, tmp_path, "demo", "SAMPLES=a folder") == [*demo, "a folder"]
