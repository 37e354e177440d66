"""A copy of a checkout in which every Python process imports the copy's product."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil  # type: ignore[import-untyped]

HERE = Path(__file__).parent
LEFT_BEHIND = shutil.ignore_patterns(
    ".git", ".venv*", "__pycache__", ".*_cache", ".hypothesis", ".coverage*", "build"
)


@dataclass(frozen=True, slots=True)
class Run:
    """How a pytest run ended; ``code`` is None where it was stopped at its limit."""

    code: int | None
    output: str
    quiet: float  # seconds without output at the end


class Checkout:
    """A temporary copy of ``repository``, with an environment that imports from the copy.

    Tests start processes with an environment of their own, so that PYTHONPATH is not enough: the
    copy has a virtual environment, whose packages are those of ``python``.
    """

    def __init__(self, repository: Path, python: Path) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="mutants-"))
        self.path = self._folder / "checkout"
        shutil.copytree(repository, self.path, ignore=LEFT_BEHIND, symlinks=True)
        # An older checkout has no such folder, and its tests run with this one's plugin.
        shutil.copytree(HERE, self.path / "tests" / "mutants", dirs_exist_ok=True)
        self._make_environment(python.absolute())
        self._changes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def _make_environment(self, python: Path) -> None:
        venv = self.path / ".venv"
        subprocess.run([python, "-m", "venv", "--without-pip", venv], check=True)
        packages = _packages(python)
        rooms = [self.path, self.path / "scp", self.path / "chalice_app"]
        lines = [*map(str, rooms), f"import site; site.addsitedir({str(packages)!r})"]
        (_packages(venv / "bin" / "python") / "_checkout.pth").write_text("\n".join(lines))
        original = python.parent
        for tool in [*original.iterdir(), original.parent / "ministack"]:
            link = venv / tool.relative_to(original.parent)
            if tool.exists() and not link.exists():
                link.symlink_to(tool)

    @contextmanager
    def planted(self, path: str, source: str) -> Iterator[None]:
        """The file has this source for now."""
        file = self.path / path
        original = file.read_text()
        try:
            self._write(file, source)
            yield
        finally:
            self._write(file, original)

    def _write(self, file: Path, source: str) -> None:
        """Write the file with a time of its own, by which Python knows that its cache is old."""
        file.write_text(source)
        self._changes += 1
        os.utime(file, (time.time(), 1_000_000_000 + 10 * self._changes))

    def pytest(self, options: Sequence[str], tests: Sequence[str], limit: float) -> Run:
        """Run these tests, for ``limit`` seconds at most."""
        shutil.rmtree(self.path / ".hypothesis", ignore_errors=True)
        listed = self._folder / "tests"  # there may be more than a command line holds
        listed.write_text("\n".join(tests))
        log = self._folder / "output"
        python = str(self.path / ".venv" / "bin" / "python")
        command = [python, "-m", "pytest", "-p", "tests.mutants.plugin", *options, f"@{listed}"]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=self.path, env=_environment(), stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            try:
                code = process.wait(limit)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                quiet = time.time() - log.stat().st_mtime
                _stop(process)
        return Run(code, log.read_text(errors="replace"), quiet)

    def collected(self, markers: str) -> list[str]:
        """The node ids of all tests with these markers."""
        run = self.pytest(["--collect-only", "-q", "-m", markers], ["tests"], 600)
        if run.code != 0:
            raise RuntimeError(f"pytest collects no tests:\n{run.output}")
        return [line for line in run.output.splitlines() if "::" in line]


def _environment() -> dict[str, str]:
    outer = ("VIRTUAL_ENV", "PYTHONPATH", "PYTEST", "COVERAGE", "COV_")
    return {name: value for name, value in os.environ.items() if not name.startswith(outer)}


def _packages(python: Path) -> Path:
    command = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    return Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Kill the run and whatever it has started."""
    try:
        started = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        started = []
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for each in started:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait()


def default_python() -> Path:
    """The Python that runs this."""
    return Path(sys.executable)
