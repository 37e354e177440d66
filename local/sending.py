"""``send``: DICOM files to a Store SCP, with a progress bar."""

from collections.abc import Sequence
from pathlib import Path

from rich.progress import track

from local import report, samples
from local.report import console
from local.scu import Sent, send


def send_files(files: Sequence[str], host: str, port: int, ae_title: str) -> bool:
    """Whether all files, and those below each folder, were acknowledged; raises LocalCloudError."""
    paths = [path for each in files for path in samples.files_below(Path(each))]
    sent = send_with_progress(samples.read(paths), host, port, ae_title)
    refused = report.print_refusals(console, sent)
    console.print(f"{len(sent) - refused} acknowledged, {refused} not.")
    return not refused


def send_with_progress(
    chosen: list[samples.Sample], host: str, port: int, ae_title: str
) -> list[Sent]:
    """What came of each."""
    answers = send(chosen, host, port, ae_title)
    return list(track(answers, "Sending", total=len(chosen), console=console))
