"""The image, built and started by a podman whose images and containers end with the test.

podman needs no daemon, and reads a Dockerfile and its HEALTHCHECK as docker does.
"""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from tests.protocol.receiver import REPOSITORY, ReceiverProcess

IMAGE = "localhost/store-scp"
_STAND_IN = "localhost/stand-in"
_SUITE = "trixie"
# Python as the official image has it: in /usr/local, and pip in no package of the system.
_PYTHON = 'chroot "$1" python3 -m venv /usr/local'
_PACKAGES = "python3,python3-venv,ca-certificates"
# What pip has to know to reach its index from another root; ``cert`` is a file.
_PIP_OPTIONS = ("index-url", "extra-index-url", "trusted-host", "proxy", "cert")
# podman's own are above what a machine may allow its root.
_LIMITS = ("--ulimit=nofile=4096:4096", "--ulimit=nproc=4096:4096")
_SECONDS = 600

# A task definition's: its own user, no capabilities, and nothing to write to but the volumes.
_RESTRICTIONS = (
    "--network=host",
    "--read-only",
    "--read-only-tmpfs=false",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
    *_LIMITS,
)


class Podman:
    """Everything of it lies in one folder, and goes with it; a context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.command: Sequence[str] = [
            "podman",
            "--log-level=fatal",  # of the systemd that it would like to have for health checks
            f"--root={folder / 'images'}",
            f"--runroot={folder / 'run'}",
            f"--tmpdir={folder / 'tmp'}",
            "--runtime=runc",
            "--cgroup-manager=cgroupfs",
            "--events-backend=file",
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.call("rm", "--all", "--force", "--volumes")

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one command to its end; both of its streams are in ``stdout``."""
        return subprocess.run(
            [*self.command, *arguments],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_SECONDS,
            check=False,
        )

    def succeed(self, *arguments: str) -> str:
        """Run a command that has to work; what it printed."""
        done = self.call(*arguments)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def stand_in(self) -> str:
        """A base made of Debian's packages, where no registry has the pinned one; its name."""
        archive = self._folder / "base.tar"
        subprocess.run(
            [
                "mmdebstrap",
                "--quiet",
                "--variant=minbase",
                "--dpkgopt=force-unsafe-io",  # nothing of it outlives the test
                f"--include={_PACKAGES}",
                f"--customize-hook={_PYTHON}",
                _SUITE,
                archive,
            ],
            check=True,
            timeout=_SECONDS,
        )
        self.succeed("import", str(archive), _STAND_IN)
        archive.unlink()
        return _STAND_IN

    def build(self, base: str, image: str = IMAGE, *more: str) -> None:
        """What ``docker build`` does, with this machine's way to the package index."""
        options = _pip_options()
        (self._folder / "pip.conf").write_text(
            "\n".join(["[global]", *(f"{name} = {value}" for name, value in options.items())])
        )
        authorities = options.get("cert")
        self.succeed(
            "build",
            "--format=docker",  # the other one has no HEALTHCHECK
            "--timestamp=0",
            "--network=host",
            *_LIMITS,
            f"--build-arg=BASE={base}",
            f"--secret=id=pip.conf,src={self._folder / 'pip.conf'}",
            *([f"--volume={authorities}:{authorities}:ro"] if authorities else []),
            "--file=scp/Dockerfile",
            f"--tag={image}",
            *more,
            ".",
        )

    def python(self, program: str) -> str:
        """What a program prints that the image's Python runs."""
        return self.succeed(
            "run", "--rm", *_RESTRICTIONS, "--entrypoint=/app/venv/bin/python", IMAGE, "-c", program
        )


class Container(ReceiverProcess):
    """The receiver in its container, followed and stopped as if it were a child process."""

    def __init__(self, podman: Podman, name: str, **environment: str) -> None:
        super().__init__(**environment)
        ours = [each for each in self._environment if not _is_of_this_machine(each)]
        self._command = [
            *podman.command,
            "run",
            f"--name={name}",
            *_RESTRICTIONS,
            *(f"--env={each}" for each in ours),
            IMAGE,
        ]


def _is_of_this_machine(variable: str) -> bool:
    return variable in {"HOME", "PATH", "PYTHONPATH"} or variable.startswith("COVERAGE_")


def _pip_options() -> Mapping[str, str]:
    """How pip here reaches its index, by its files and its variables."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    found = {}
    for line in listed.stdout.splitlines():
        name, _, value = line.partition("=")
        found[name.rpartition(".")[2]] = value.strip("'")
    return {name: found[name] for name in _PIP_OPTIONS if name in found}
