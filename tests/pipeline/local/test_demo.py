"""The command behind make demo, as a user runs it."""

import subprocess
import sys

from pydicom.data import get_testdata_file

from local.names import REPOSITORY


def test_the_demo_accounts_for_every_instance_and_exits_0() -> None:
    command = ["-m", "local", "demo", "--samples", str(get_testdata_file("CT_small.dcm"))]
    done = subprocess.run(
        [sys.executable, *command],
        capture_output=True, text=True, check=False, cwd=REPOSITORY, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 sent, 1 acknowledged, 1 imported, 0 failed with a reason, 0 lost." in done.stdout
    assert "COMPLETED" in done.stdout
    assert "Events: 1 Batch Imported." in done.stdout
