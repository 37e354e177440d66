"""Install a locked requirements file into a virtual environment, and show one line that moves.

``python3 requirements/install.py VENV FILE [--editable]``; the line says what is being fetched and
how many of how many packages are there. If the package index fails, one sentence says how. Packages
are installed a few at a time, so the next run goes on where this one stopped, whatever pip caches.

It runs before anything is installed: the standard library is all it has.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

_PIP = ["-m", "pip", "--disable-pip-version-check", "--no-input"]
_REQUIREMENT = re.compile(r"^(?=[A-Za-z0-9][\w.-]*(?:\[[^\]]*\])?==)", re.MULTILINE)
_AT_A_TIME = 12
_PASSED = re.compile(
    r"^(?:Collecting|Requirement already satisfied:|Ignoring) ([A-Za-z0-9][\w.-]*)"
)
_RETRIES_LEFT = re.compile(r"Retrying \(Retry\(total=(\d+)")
_RETRIES = 5
# What pip writes about an index that fails, and what that means; the first that matches counts.
_CAUSES = (
    (r"HTTP error (\d{3}) while getting (\S+)", "answered {0} for {1}"),
    (r"(\d{3}) (?:Client|Server) Error: .* for url: (\S+)", "answered {0} for {1}"),
    (r"too many (\d{3}) error responses", "answered {0} again and again"),
    (r"DO NOT MATCH THE HASHES", "sent other bytes for {package} than {file} names"),
    (
        r"ReadTimeoutError|ProtocolError|IncompleteRead|ConnectionResetError",
        "stopped answering while it sent {package}",
    ),
    (
        r"NewConnectionError|ConnectTimeoutError|NameResolutionError|ProxyError",
        "could not be reached",
    ),
    (r"CERTIFICATE_VERIFY_FAILED|SSLError", "has a certificate that this machine does not trust"),
    (r"(?:No matching distribution found for|versions: none\)) ?(\S*)", "does not have {package}"),
)


@dataclass
class Progress:
    """Where an installation stands, read off pip's output line by line."""

    label: str
    total: int
    package: str = ""
    passed: set[str] = field(default_factory=set)
    tries: int = 0

    def read(self, line: str) -> None:
        """Take one line of pip's output into account."""
        if found := _PASSED.match(line):
            self.package = found[1]
            self.passed.add(found[1].lower())
            self.tries = 0
        elif found := _RETRIES_LEFT.search(line):
            self.tries = _RETRIES - int(found[1])

    def __str__(self) -> str:
        again = f", no answer yet, try {self.tries + 1}" if self.tries else ""
        where = f"({len(self.passed)} of {self.total}{again})"
        return f"Installing {self.label}: {self.package or 'starting'} {where}"


def split(requirements: str) -> list[str]:
    """Each package of a locked requirements file, with its hashes."""
    return [each for each in _REQUIREMENT.split(requirements) if _REQUIREMENT.match(each)]


def cause(output: str, package: str, file: str) -> str:
    """Why pip failed, in one sentence: ``output`` is all that it wrote."""
    if "No space left on device" in output:
        return "The disk is full."
    for pattern, meaning in _CAUSES:
        if found := re.search(pattern, output):
            said = meaning.format(*found.groups(), package=package or "a package", file=file)
            return f"The package index {said}."
    errors = [line for line in output.splitlines() if line.startswith("ERROR:")]
    last = errors[-1].removeprefix("ERROR:").strip() if errors else "it said nothing"
    return f"pip failed: {last}"


def environment(folder: Path) -> Path:
    """The virtual environment's Python; what an interrupted run left of one is made anew.

    Raises SystemExit with what to install, where Python comes without venv.
    """
    python = folder / "bin" / "python"
    usable = (
        python.exists()
        and not subprocess.run(
            [python, "-c", "import pip"], capture_output=True, check=False
        ).returncode
    )
    if usable:
        return python
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        said = (made.stderr + made.stdout).strip()
        if "ensurepip" in said or "No module named venv" in said:
            said = "Python's venv module is missing; on Debian and Ubuntu: install python3-venv"
        raise SystemExit(said or "python -m venv failed and said nothing")
    return python


def install(pip: list[str | Path], packages: list[str], progress: Progress) -> None:
    """A few packages at a time; raises subprocess.CalledProcessError with what pip wrote."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "requirements.txt"
        for at in range(0, len(packages), _AT_A_TIME):
            file.write_text("".join(packages[at : at + _AT_A_TIME]))
            # The file names every dependency, too: pip has none to look for.
            run([*pip, "--no-deps", "--require-hashes", "--requirement", file], progress)


def run(command: list[str | Path], progress: Progress) -> None:
    """Run pip and show the line that moves, where somebody watches.

    Raises subprocess.CalledProcessError, with what pip wrote as its output.
    """
    words = [str(word) for word in command]
    lines: list[str] = []
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout or ():
            lines.append(line)
            progress.read(line)
            if sys.stderr.isatty():
                width = shutil.get_terminal_size().columns - 1
                print(f"\r\033[K{str(progress)[:width]}", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, words, "".join(lines))


def main(arguments: list[str] | None = None) -> int:
    """Install; the exit status is 1 with one sentence where it failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("venv", type=Path, help="the virtual environment's folder")
    parser.add_argument("file", type=Path, help="a requirements file with hashes")
    parser.add_argument("--label", required=True, help="what a person calls it")
    parser.add_argument("--editable", action="store_true", help="this checkout, too")
    chosen = parser.parse_args(arguments)
    began = time.monotonic()
    pip: list[str | Path] = [environment(chosen.venv), *_PIP, "install"]
    packages = split(chosen.file.read_text())
    progress = Progress(chosen.label, len(packages))
    if not sys.stderr.isatty():
        print(f"Installing {chosen.label}: {len(packages)} packages ...", file=sys.stderr)
    try:
        install(pip, packages, progress)
        if chosen.editable:
            progress.package = "this checkout"
            run([*pip, "--no-deps", "--no-build-isolation", "--editable", "."], progress)
    except KeyboardInterrupt:
        print("\nStopped. Run the same command again: what is installed stays.", file=sys.stderr)
        return 130
    except subprocess.CalledProcessError as error:
        log = chosen.venv / "install.log"
        log.write_text(error.output)
        print(cause(error.output, progress.package, chosen.file.name), file=sys.stderr)
        print(
            f"Run the same command again: what is installed stays. What pip said last: {log}",
            file=sys.stderr,
        )
        return 1
    seconds = time.monotonic() - began
    print(f"Installed {chosen.label}: {progress.total} packages, {seconds:.0f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
