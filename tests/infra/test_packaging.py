"""What Chalice puts into the Lambdas' package runs without the repository around it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

APP = Path(__file__).parents[2] / "chalice_app"


def test_the_package_imports_on_its_own_without_a_setting(tmp_path: Path) -> None:
    """As Chalice does: app.py, chalicelib/ and the contents of vendor/, its links followed."""
    shutil.copy(APP / "app.py", tmp_path)
    shutil.copytree(APP / "chalicelib", tmp_path / "chalicelib")
    shutil.copytree(APP / "vendor", tmp_path, dirs_exist_ok=True)
    probe = (
        "import sys; sys.path[:] = [p for p in sys.path if 'site-packages' in p or 'lib' in p];"
        f"sys.path.insert(0, {str(tmp_path)!r});"
        "import app, contract, pathlib;"
        "print(pathlib.Path(contract.__file__).parent.parent, *sorted(f.name for f in "
        "app.app.pure_lambda_functions), *sorted(f.name for f in app.app.event_sources))"
    )
    environment = {"PATH": os.environ["PATH"], "AWS_CHALICE_CLI_MODE": "true"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", probe],
        capture_output=True, text=True, check=False, cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        str(tmp_path),
        "check_status",
        "record_failure",
        "start_import_job",
        "announce_events",
        "collect_dropbox",
        "dispatch_imports",
        "expire_objects",
        "on_image_set_event",
        "on_import_event",
        "reconcile",
        "recover_batches",
        "trigger_import",
    ]
