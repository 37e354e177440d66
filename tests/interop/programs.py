"""The peers' own programs, as their packages install them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

_SECONDS = 60
# Debian puts Orthanc where only root looks.
_PATH = f"{os.environ.get('PATH', os.defpath)}{os.pathsep}/usr/sbin"
# Debian's DCMTK waits 44 ms for an acknowledgement at each message without it.
DCMTK_ENVIRONMENT = {"TCP_NODELAY": "1"}


def find(program: str) -> str:
    """Where it is. Missing it is a failure, except for Orthanc where no package brings it."""
    found = shutil.which(program, path=_PATH)
    if found is None and program == "Orthanc" and sys.platform == "darwin":
        pytest.skip("Orthanc has no package for macOS: run these tests on Debian or Ubuntu")
    assert found, f"{program} is not installed: run tests/install-peers.sh"
    return found


def run(
    program: str, *arguments: str | Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run it to its end; both of its streams are in ``stdout``."""
    return subprocess.run(
        [find(program), *arguments],
        env={**os.environ, **DCMTK_ENVIRONMENT, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_SECONDS,
        check=False,
    )


def succeed(
    program: str, *arguments: str | Path, environment: Mapping[str, str] | None = None
) -> str:
    """Run what has to work; what it printed."""
    done = run(program, *arguments, environment=environment)
    assert done.returncode == 0, done.stdout
    return done.stdout


def sample(name: str) -> Path:
    """One of pydicom's files."""
    return Path(str(get_testdata_file(name, download=False)))
