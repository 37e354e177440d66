"""The command line: ``demo``, ``up`` and ``send``.

What does the work is imported by the command that needs it: help and usage errors come at once.
"""

import signal
import sys

import click

from local.names import AE_TITLE, BUNDLED, LOOPBACK, Ports


@click.group()
def main() -> None:
    """The whole pipeline on this machine: no account, no Docker."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stop everything, as Ctrl-C does


@main.command()
@click.option("--samples", "source", default=BUNDLED, show_default=True,
              help="pydicom, ct500, or a file or folder of your own.")  # fmt: skip
def demo(source: str) -> None:
    """Send DICOM files through the whole pipeline and show the import jobs."""
    from local.demo import demonstrate  # noqa: PLC0415 - see above

    sys.exit(0 if demonstrate(source) else 1)


@main.command()
@click.option("--dicom-port", default=11112, show_default=True)
@click.option("--rest-port", default=8000, show_default=True)
@click.option("--aws-port", default=4566, show_default=True)
def up(dicom_port: int, rest_port: int, aws_port: int) -> None:
    """Keep the local cloud running until Ctrl-C."""
    from local.up import keep_running  # noqa: PLC0415 - see above

    keep_running(Ports(dicom_port, rest_port, aws_port))


@main.command("send")
@click.argument("files", nargs=-1, required=True)
@click.option("--host", default=LOOPBACK, show_default=True)
@click.option("--port", default=11112, show_default=True)
@click.option("--aet", default=AE_TITLE, show_default=True, help="The called AE title.")
def send_command(files: tuple[str, ...], host: str, port: int, aet: str) -> None:
    """Send DICOM files, or every one below a folder, to a Store SCP."""
    from local.sending import send_files  # noqa: PLC0415 - see above

    sys.exit(0 if send_files(files, host, port, aet) else 1)
