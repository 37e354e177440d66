"""The step between the stacks: render the Chalice project, and let Chalice deploy it."""

import json
import os
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from infra.deploy import chalice_record, chalice_stage, lambda_service
from infra.deploy.chalice_stage import API_HANDLER, APP, Stage, function_name
from infra.deploy.errors import DeployError
from infra.deploy.invocations import async_configs
from infra.deploy.templates import REPOSITORY

Tell = Callable[[str], None]
_PROJECTS = REPOSITORY / "build" / "chalice"
_PARTS = ("app.py", "chalicelib", "vendor", "requirements.txt")
_CHALICE = "import sys; from chalice.cli import main; sys.exit(main())"
_TOLD_LINES = 15


def project_of(name: str) -> Path:
    """Where a deployment's project is rendered: outside the sources, which stay as they are."""
    return _PROJECTS / name


def render(project: Path, stage: Stage) -> None:
    """Write the project: the app as it is, and .chalice/ as this deployment needs it.

    With it comes what Chalice is to know of what it deployed before.
    """
    for part in _PARTS:
        source, target = APP / part, project / part
        if source.is_dir():
            shutil.rmtree(target, ignore_errors=True)
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, target, ignore=ignored)  # follows vendor's link
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    folder = project / ".chalice"
    _write(folder / "config.json", chalice_stage.render_config(stage))
    for name, policy in chalice_stage.render_policies(stage).items():
        _write(folder / name, policy)
    record = chalice_record.record(stage.name, stage.place)
    _write(folder / "deployed" / f"{stage.name}.json", record)


def deploy(project: Path, stage: Stage, tell: Tell) -> None:
    """Deploy the rendered project; raises DeployError, also if the stage is another Region's.

    How long Lambda holds the schedules' invocations back, Chalice has no setting for.
    """
    other = chalice_record.other_region(stage.name, stage.place)
    if other:
        raise DeployError(
            f"The functions' roles, {function_name(stage.name, API_HANDLER)}-..., are those of a "
            f"deployment in {other}, and roles are the account's, not a Region's.",
            "Deploy here with another --stage.",
        )
    _chalice(["deploy", "--stage", stage.name], project, stage, tell)
    tell("asynchronous invocations of the schedules' functions")
    lambda_service.put_async_configs(stage.name, async_configs(), stage.place.region)


def delete(project: Path, stage: Stage, tell: Tell) -> None:
    """Delete what Chalice deployed; a function's asynchronous configuration goes with it."""
    _chalice(["delete", "--stage", stage.name], project, stage, tell)


def _chalice(arguments: list[str], project: Path, stage: Stage, tell: Tell) -> None:
    """Chalice as a process of this Python; raises DeployError with the last that it said."""
    region = {"AWS_REGION": stage.place.region, "AWS_DEFAULT_REGION": stage.place.region}
    command = [sys.executable, "-c", _CHALICE, "--project-dir", str(project), *arguments]
    said: deque[str] = deque(maxlen=_TOLD_LINES)
    with subprocess.Popen(  # noqa: S603 - our own Python, and words of our own
        command,
        cwd=project,
        env={**os.environ, **region},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        for line in process.stdout or ():
            if text := line.strip():
                said.append(text)
                tell(text)
    if process.returncode:
        raise DeployError(f"chalice {' '.join(arguments)} failed:\n  " + "\n  ".join(said))


def _write(path: Path, document: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
