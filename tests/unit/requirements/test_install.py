"""What the installer reads off a lock file and off pip's output."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requirements.install import Progress, cause, split

LOCKS = sorted((Path(__file__).parents[3] / "requirements").glob("*.txt"))
LOCK = """# made by
#    make lock
botocore[crt]==1.44.0 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
    # via boto3
pywin32==312 ; sys_platform == 'win32' \\
    --hash=sha256:cc
"""


def test_a_lock_file_is_split_into_packages_with_their_hashes() -> None:
    first, second = split(LOCK)
    assert first.startswith("botocore[crt]==1.44.0 ")
    assert "sha256:bb" in first
    assert second == "pywin32==312 ; sys_platform == 'win32' \\\n    --hash=sha256:cc\n"


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_no_package_of_our_own_lock_files_is_left_out(lock: Path) -> None:
    text = lock.read_text()
    packages = split(text)
    assert len(packages) == text.count("==") - text.count(" == ")
    assert all("--hash=sha256:" in each for each in packages)


def test_the_line_says_what_is_fetched_and_how_many_are_there() -> None:
    progress = Progress("the local cloud", 85)
    assert str(progress) == "Installing the local cloud: starting (0 of 85)"
    for line in (
        "Requirement already satisfied: attrs==25 in ./x (from -r r.txt (line 1))",
        "Ignoring pywin32: markers \"sys_platform == 'win32'\" don't match your environment",
        "Collecting botocore==1.44.0 (from -r r.txt (line 9))",
        "  Downloading botocore-1.44.0-py3-none-any.whl (13 MB)",
    ):
        progress.read(line)
    assert str(progress) == "Installing the local cloud: botocore (3 of 85)"


def test_the_line_says_that_the_index_does_not_answer() -> None:
    progress = Progress("the local cloud", 85)
    progress.read("Collecting botocore==1.44.0")
    progress.read("WARNING: Retrying (Retry(total=3, connect=None)) after connection broken by")
    assert str(progress) == "Installing the local cloud: botocore (1 of 85, no answer yet, try 3)"
    progress.read("Collecting s3transfer==0.17")
    assert str(progress) == "Installing the local cloud: s3transfer (2 of 85)"


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        (
            "ERROR: HTTP error 503 while getting https://index.example/a.whl",
            "The package index answered 503 for https://index.example/a.whl.",
        ),
        (
            "WARNING: Retrying (...): 'NewConnectionError(...)'\nERROR: No matching distribution",
            "The package index could not be reached.",
        ),
        ("ERROR: No matching distribution found for a==1", "The package index does not have a."),
        (
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.",
            "The package index sent other bytes for a than dev.txt names.",
        ),
        (
            "Traceback\npip._vendor.urllib3.exceptions.ReadTimeoutError: Read timed out.",
            "The package index stopped answering while it sent a.",
        ),
        ("ERROR: Could not install: [Errno 28] No space left on device", "The disk is full."),
        ("ERROR: first\nERROR: Something else", "pip failed: Something else"),
        ("", "pip failed: it said nothing"),
    ],
)
def test_a_failure_is_told_in_one_sentence(output: str, sentence: str) -> None:
    assert cause(output, "a", "dev.txt") == sentence


@given(st.text())
def test_any_output_of_pip_is_read(text: str) -> None:
    progress = Progress("x", 1)
    for line in text.splitlines():
        progress.read(line)
    assert "\n" not in str(progress)
    assert cause(text, progress.package, "x.txt")
    assert "".join(split(text)) in text
