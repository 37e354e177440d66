"""The command line: ``demo``, ``up`` and ``send``."""

import signal
import sys
import tempfile
import time
from pathlib import Path

import click
from rich.console import Console
from rich.live import Live
from rich.progress import track

from local import report, samples
from local.cloud import Cloud, CloudOptions
from local.events import count_until_told
from local.follow import Ledger, RestClient, totals, until_complete
from local.names import LOOPBACK, Ports
from local.scu import Sent, send
from local.stored import count_stored

AE_TITLE = "STORESCP"
_EVERY_SECONDS = 0.5
_PATIENCE_SECONDS = 180.0
_EVENT_PATIENCE_SECONDS = 10.0
# A study counts as complete after this quiet time; the deployed default is longer.
_DEMO_BATCHES = {"BATCH_QUIET_SECONDS": "2"}
console = Console(highlight=False)


@click.group()
def main() -> None:
    """The whole pipeline on this machine: no account, no Docker."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stop everything, as Ctrl-C does


@main.command()
@click.option("--samples", "source", default=samples.BUNDLED, show_default=True,
              help="pydicom, ct500, or a file or folder of your own.")  # fmt: skip
def demo(source: str) -> None:
    """Send DICOM files through the whole pipeline and show the import jobs."""
    with tempfile.TemporaryDirectory(prefix="store-scp-demo-") as work:
        chosen = samples.find(source, Path(work))
        with Cloud(CloudOptions(receiver_environment=_DEMO_BATCHES)) as cloud:
            accounted = _demo(chosen, cloud)
    sys.exit(0 if accounted else 1)


def _demo(chosen: list[samples.Sample], cloud: Cloud) -> bool:
    console.print(f"The local cloud runs; sending to {AE_TITLE} at {LOOPBACK}:{cloud.dicom_port}.")
    sent = _send_all(chosen, LOOPBACK, cloud.dicom_port, AE_TITLE)
    acknowledged = {each.sample.sop_instance_uid for each in sent if each.acknowledged}
    ledger, client = Ledger(acknowledged), RestClient(cloud.rest_url)
    with Live(console=console, refresh_per_second=4) as line:
        for now in until_complete(ledger, client, _EVERY_SECONDS, _PATIENCE_SECONDS):
            line.update(str(now))
    if not console.is_terminal:
        console.print()  # Live ends its last line only there
    console.print(report.jobs_table(ledger.jobs))
    counts = count_until_told({job["batchId"] for job in ledger.jobs}, _EVENT_PATIENCE_SECONDS)
    console.print(report.events_line(counts))
    report.print_failures(console, ledger.instances.values())
    report.print_refusals(console, sent)
    return _verdict(sent, ledger)


def _verdict(sent: list[Sent], ledger: Ledger) -> bool:
    """Whether every acknowledged instance is imported or has a reason, and anything was sent."""
    for uid in sorted(ledger.missing):
        console.print(f"LOST: {uid} was acknowledged, and no job accounts for it.")
    imported = sum(each["state"] == "IMPORTED" for each in ledger.instances.values())
    console.print(
        f"{len(sent)} sent, {len(ledger.acknowledged)} acknowledged, {imported} imported, "
        f"{len(ledger.instances) - imported} failed with a reason, {len(ledger.missing)} lost."
    )
    return bool(ledger.acknowledged) and ledger.complete


@main.command()
@click.option("--dicom-port", default=11112, show_default=True)
@click.option("--rest-port", default=8000, show_default=True)
@click.option("--aws-port", default=4566, show_default=True)
def up(dicom_port: int, rest_port: int, aws_port: int) -> None:
    """Keep the local cloud running until Ctrl-C."""
    try:
        with Cloud(CloudOptions(Ports(dicom_port, rest_port, aws_port))) as cloud:
            _print_directions(cloud)
            _watch(cloud)
    except KeyboardInterrupt:
        console.print("Stopped; what it held is gone.")


def _print_directions(cloud: Cloud) -> None:
    console.print(
        f"Send to   {AE_TITLE} at {LOOPBACK}:{cloud.dicom_port}\n"
        f"REST API  {cloud.rest_url}\n"
        f"AWS       {cloud.aws_url}\n"
        f"Logs      {cloud.log_folder}\n\n"
        f"  storescu -aec {AE_TITLE} {LOOPBACK} {cloud.dicom_port} {_an_image()}\n"
        f"  curl -s {cloud.rest_url}/jobs\n"
        f"  make send FILES=path/to/folder\n\n"
        "Everything is kept in memory and gone after Ctrl-C."
    )
    sys.stdout.flush()  # also for whoever reads it through a pipe


def _an_image() -> Path:
    """A file for the command to copy, relative if it is below where the user stands."""
    path = samples.bundled()[0]
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _watch(cloud: Cloud) -> None:
    client = RestClient(cloud.rest_url)
    with Live(console=console, refresh_per_second=4) as line:
        while True:
            line.update(str(totals(count_stored(), client.jobs())))
            time.sleep(1)


@main.command("send")
@click.argument("files", nargs=-1, required=True)
@click.option("--host", default=LOOPBACK, show_default=True)
@click.option("--port", default=11112, show_default=True)
@click.option("--aet", default=AE_TITLE, show_default=True, help="The called AE title.")
def send_command(files: tuple[str, ...], host: str, port: int, aet: str) -> None:
    """Send DICOM files, or every one below a folder, to a Store SCP."""
    paths = [path for each in files for path in samples.files_below(Path(each))]
    sent = _send_all(samples.read(paths), host, port, aet)
    refused = report.print_refusals(console, sent)
    console.print(f"{len(sent) - refused} acknowledged, {refused} not.")
    sys.exit(1 if refused else 0)


def _send_all(chosen: list[samples.Sample], host: str, port: int, aet: str) -> list[Sent]:
    answers = send(chosen, host, port, aet)
    return list(track(answers, "Sending", total=len(chosen), console=console))
