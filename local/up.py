"""``up``: the local cloud until Ctrl-C, with a line that says how far the instances are."""

import sys
import time
from pathlib import Path

from local import samples
from local.cloud import Cloud, CloudOptions
from local.follow import ApiFailedError, JobApi, RestClient, totals
from local.names import AE_TITLE, LOOPBACK, Ports
from local.outage import Outage
from local.report import console, live_line, print_line
from local.stored import count_stored


def keep_running(ports: Ports) -> None:
    """Run the local cloud until KeyboardInterrupt; raises LocalCloudError if it cannot start."""
    try:
        with Cloud(CloudOptions(ports)) as cloud:
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
        f"  make send FILES=path/to/folder\n"
        f"  . {cloud.operator_file} && python -m chalicelib.operations --help\n\n"
        "Everything is kept in memory and gone after Ctrl-C.",
        soft_wrap=True,  # a command that is copied must be one line
    )
    sys.stdout.flush()  # also for whoever reads it through a pipe


def _an_image() -> Path:
    """A file for the command to copy, relative if it is below where the user stands."""
    path = samples.bundled()[0]
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _watch(cloud: Cloud) -> None:
    client, outage = RestClient(cloud.rest_url), Outage(print_line)
    with live_line() as update:
        while True:
            progress = describe_progress(client, outage)
            if progress is not None:
                update(progress)
            time.sleep(1)


def describe_progress(client: JobApi, outage: Outage) -> str | None:
    """How far the instances are; None, which ``outage`` says, while the job API does not answer.

    The local cloud runs on: its AWS may be throttling, as the real one does.
    """
    try:
        jobs = client.jobs()
    except ApiFailedError as error:
        outage.failed(str(error))
        return None
    outage.worked("The job API")
    return str(totals(count_stored(), jobs))
