"""The command line: what is asked, in which order, and what is shown of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from botocore import exceptions
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console

from infra.deploy import aws, config, removal, report, templates
from infra.deploy.config import DEFAULT_STAGE, Configuration
from infra.deploy.deployment import Deployment
from infra.deploy.echo import echo
from infra.deploy.errors import DeployError
from infra.deploy.steps import STEPS, Done, Kind, failure

console = Console(highlight=False, soft_wrap=True)
Tell = Callable[[str], None]
_UNREACHABLE = (exceptions.ConnectionError, exceptions.HTTPClientError)
_CREDENTIALS = (
    "The configuration has no error; what stands on AWS cannot be asked without credentials. "
    "Set AWS_PROFILE, or run `aws configure`; where they have expired, log in again."
)


def _options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--stage", default=DEFAULT_STAGE, show_default=True, help="Which deployment."),
        click.option("--config", "path", type=click.Path(path_type=Path), help="A TOML file."),
        click.option("--region", help="Else the file's, or AWS_REGION."),
    ):
        command = option(command)
    return command


@click.group()
def main() -> None:
    """Deploy the DICOM Store SCP to AWS. See docs/deployment.md."""


@main.command()
@_options
def plan(**asked: Any) -> None:
    """Check the configuration and show what up would change; changes nothing."""
    deployment = _deployment(**asked)
    for step in STEPS:
        with _problems(step.name):
            if step.kind is Kind.STACK:
                report.print_changes(console, step, deployment.planned(step))
            elif step.kind is Kind.IMAGE:
                console.print(f"[bold]{step.name}[/]: {deployment.image_uri()}")
            else:
                console.print(f"[bold]{step.name}[/]: deployed each time, by Chalice")
                report.print_shortage(console, deployment.capacity())
    console.print("Nothing was changed.")


@main.command()
@_options
def up(**asked: Any) -> None:
    """Deploy everything, or what has changed; safe to repeat."""
    deployment = _deployment(**asked)
    with _problems("image"):
        deployment.check_tool()
    with _problems("functions"):
        report.print_shortage(console, deployment.capacity())
    done: list[Done] = []
    for step in STEPS:
        try:
            with _problems(), report.progress(console, step.name, step.about) as tell:
                outcome = deployment.run(step, tell)
        except DeployError as error:
            again = f"python -m infra.deploy up {_arguments(**asked)}"
            raise DeployError(failure(done, step, error.message, error.remedy, again)) from None
        done.append(Done(step, outcome))
        console.print(f"[bold]{step.name}[/]: {outcome}")
    _greet(deployment)


@main.command()
@_options
def status(**asked: Any) -> None:
    """Show what stands, whether it runs, and the connection settings."""
    deployment = _deployment(**asked)
    with _problems("status"):
        report.print_status(console, deployment)


@main.command()
@_options
def render(**asked: Any) -> None:
    """Write the Chalice project for a deployment by hand; changes nothing on AWS."""
    deployment = _deployment(**asked)
    with _problems("render"):
        deployment.render()
    stage = deployment.configuration.stage
    console.print(f"chalice --project-dir {deployment.project} deploy --stage {stage}")


@main.command()
@_options
@click.option("--delete-data", is_flag=True, help="Buckets, tables and data store, too.")
@click.option("--yes-delete-data", metavar="PREFIX-STAGE", help="Confirms it without a question.")
def down(delete_data: bool, yes_delete_data: str | None, **asked: Any) -> None:
    """Remove the receiver, the functions and the network; keeps all data unless told twice."""
    deployment = _deployment(**asked)
    if delete_data:
        _confirm(deployment.configuration, yes_delete_data)
    for name in removal.WITHOUT_DATA:
        _remove(name, removal.remove, deployment)
    if delete_data:
        for name in removal.WITH_DATA:
            _remove(name, removal.remove_data, deployment)
        return
    console.print(f"Kept, with all data: {' and '.join(removal.WITH_DATA)}.")


def _remove(
    name: str, remove: Callable[[Deployment, str, Tell], bool], deployment: Deployment
) -> None:
    with _problems(name), report.progress(console, name, "removing") as tell:
        removed = remove(deployment, name, tell)
    console.print(f"[bold]{name}[/]: {'removed' if removed else 'not there'}")


def _confirm(configuration: Configuration, confirmed: str | None) -> None:
    name = configuration.name
    if confirmed is None:
        console.print(f"This deletes every image, record and log of {name} in this account.")
        confirmed = click.prompt("Its name, to go on")
    if confirmed != name:
        raise DeployError(f"{confirmed!r} is not {name!r}; nothing was deleted.")


def _greet(deployment: Deployment) -> None:
    """The end of up: where to send to, and whether it answers."""
    receiver = deployment.receiver(deployment.outputs())
    console.print(f"\nConnection settings for the modality:\n{receiver.settings()}")
    report.print_rest_api(console, deployment)
    console.print(report.verdict(receiver, echo(receiver) if receiver.port else None))


def _deployment(stage: str, path: Path | None, region: str | None) -> Deployment:
    """Raises ConfigInvalid before anything is called."""
    known = templates.read()
    configuration = config.load(path, stage, region, known, aws.default_region())
    with _problems("credentials", _CREDENTIALS):
        return Deployment(configuration, known, aws.place(configuration.region))


def _arguments(stage: str, path: Path | None, region: str | None) -> str:
    given = {"--stage": stage, "--config": path, "--region": region}
    return " ".join(f"{name} {value}" for name, value in given.items() if value is not None)


@contextmanager
def _problems(what: str = "", remedy: str = "") -> Iterator[None]:
    """AWS's errors, and being stopped, as errors of ours in one line.

    ``remedy`` is what to do next, unless AWS was not reached.
    """
    prefix = f"{what}: " if what else ""
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        unreachable = isinstance(error, _UNREACHABLE)
        raise DeployError(f"{prefix}{error}", "" if unreachable else remedy) from None
    except KeyboardInterrupt:
        raise DeployError(f"{prefix}stopped here; what it has begun on AWS goes on") from None
