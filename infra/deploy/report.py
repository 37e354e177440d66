"""What a person sees: progress, planned changes, what stands."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from infra.deploy import aws, chalice_record
from infra.deploy.deployment import Deployment
from infra.deploy.echo import Answer, Receiver
from infra.deploy.states import Outcome, Planned
from infra.deploy.steps import Step

Tell = Callable[[str], None]


@contextmanager
def progress(console: Console, name: str, about: str) -> Iterator[Tell]:
    """A moving line while a step is under way; a line for each new thing said elsewhere."""
    console.print(f"[bold]{name}[/]: {about} ...")
    last = ""

    with console.status(name) as line:

        def tell(text: str) -> None:
            nonlocal last
            if text and text != last:
                last = text
                line.update(escape(f"{name}: {text}"))
                if not console.is_terminal:
                    console.print(f"  {text}", markup=False)

        yield tell


def print_changes(console: Console, step: Step, planned: Planned) -> None:
    """One stack's part of the plan."""
    if planned.outcome is Outcome.UNCHANGED:
        console.print(f"[bold]{step.name}[/]: unchanged")
        return
    console.print(f"[bold]{step.name}[/]: would be {planned.outcome} ({step.about})")
    for each in planned.changes:
        replaced = "  REPLACED" if each.replaces else ""
        console.print(f"  {each.action} {each.logical_id} ({each.type}){replaced}", markup=False)


def print_shortage(console: Console, lines: Sequence[str]) -> None:
    """What is short on AWS's side, if anything is: a warning, which stops nothing."""
    for number, line in enumerate(lines):
        console.print("  " * bool(number) + line, style="yellow", markup=False)


def print_status(console: Console, deployment: Deployment) -> None:
    """The stacks, the receiver's tasks, alarms that ring, and where to connect."""
    table = Table("stack", "status", "changed")
    for name in deployment.templates:
        stack = deployment.stacks.find(deployment.configuration.stack_name(name))
        changed = (stack.get("LastUpdatedTime") or stack["CreationTime"]) if stack else None
        when = f"{changed:%Y-%m-%d %H:%M} UTC" if changed else ""
        table.add_row(name, stack["StackStatus"] if stack else "not there", when)
    console.print(table)
    outputs = deployment.outputs()
    if "ServiceName" in outputs:
        region = deployment.configuration.region
        console.print(_tasks(outputs["ClusterName"], outputs["ServiceName"], region))
        console.print(_alarms(deployment.configuration.name, region))
        console.print(deployment.receiver(outputs).settings())
    print_rest_api(console, deployment)
    if "DashboardUrl" in outputs:
        console.print(f"Dashboard {outputs['DashboardUrl']}")


def print_rest_api(console: Console, deployment: Deployment) -> None:
    """Its address, if it is there."""
    url = chalice_record.rest_api_url(deployment.configuration.stage, deployment.place)
    if url:
        console.print(f"REST API {url}")


def verdict(receiver: Receiver, answer: Answer | None) -> str:
    """What a C-ECHO has shown; ``answer`` is None where none could be made from here."""
    if answer is Answer.SUCCESS:
        return "C-ECHO: the receiver answers. Send it an image."
    if answer is None:
        return (
            "C-ECHO: not tried, since there is a port with TLS only. From a modality's network: "
            f"echoscu +tls KEY CERTIFICATE +cf CA -aec {receiver.ae_title} {receiver.host} "
            f"{receiver.tls_port}"
        )
    return (
        f"C-ECHO: the receiver {answer}. An internal load balancer answers only inside its VPC and "
        "to PeerCIDR1-3, so try from a modality's network: "
        f"echoscu -aec {receiver.ae_title} {receiver.host} {receiver.port}"
    )


def _tasks(cluster: str, service: str, region: str) -> str:
    found = aws.client("ecs", region).describe_services(cluster=cluster, services=[service])
    one = found["services"][0]
    return f"Tasks: {one['runningCount']} running, {one['desiredCount']} wanted"


def _alarms(prefix: str, region: str) -> str:
    pages = aws.client("cloudwatch", region).get_paginator("describe_alarms")
    ringing = [
        alarm["AlarmName"]
        for page in pages.paginate(AlarmNamePrefix=f"{prefix}-", StateValue="ALARM")
        for alarm in page["MetricAlarms"]
    ]
    return f"Alarms: {', '.join(ringing) or 'none'}"
