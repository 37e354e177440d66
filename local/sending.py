"""``send``: DICOM files to a Store SCP, with a progress bar; what cannot be sent is named."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.progress import Progress, TaskID

from local import report
from local.errors import LocalCloudError
from local.files import Sample, Skipped, below, examine
from local.report import console
from local.scu import Sent, send


@dataclass(slots=True)
class Tally:
    """How many files came to which end. ``unsent``: no association could be had any more."""

    acknowledged: int = 0
    refused: int = 0
    skipped: int = 0
    unsent: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether there was something to send, and all of it was acknowledged."""
        return self.acknowledged > 0 and not (self.refused or self.skipped or self.unsent)


def send_files(files: Sequence[str], host: str, port: int, ae_title: str) -> bool:
    """Whether all files, and those below each folder, were acknowledged; raises LocalCloudError."""
    places, tally = [Path(each) for each in files], Tally()
    require_sample(places)
    for _ in deliver(places, host, port, ae_title, tally):
        pass
    report.print_tally(tally)
    return tally.is_complete


def require_sample(places: Sequence[Path]) -> None:
    """Raises LocalCloudError, each file's reason being printed, if nothing there can be sent."""
    if any(isinstance(found, Sample) for found in examine(places)):
        return
    for found in examine(places):
        if isinstance(found, Skipped):
            report.print_skipped(found)
    raise LocalCloudError("Nothing was sent: there is no DICOM Part 10 file that can be.")


def deliver(
    places: Sequence[Path], host: str, port: int, ae_title: str, tally: Tally
) -> Iterator[Sent]:
    """Send what can be sent of the files at and below ``places``, counting into ``tally``.

    What is skipped, refused or not sent any more is printed at once. Raises LocalCloudError if the
    first association cannot be had.
    """
    total = sum(1 for place in places for _ in below(place))
    with Progress(console=console) as progress:
        bar = progress.add_task("Sending", total=total)
        try:
            for sent in send(_samples(places, progress, bar, tally), host, port, ae_title):
                progress.advance(bar)
                tally.acknowledged += sent.acknowledged
                tally.refused += not sent.acknowledged
                if not sent.acknowledged:
                    report.print_refusal(sent)
                yield sent
        except LocalCloudError as error:
            done = tally.acknowledged + tally.refused
            if not done:
                raise
            tally.unsent = max(1, total - done - tally.skipped)
            report.print_line(f"NOT SENT: {tally.unsent} more files: {error.message}")


def _samples(
    places: Sequence[Path], progress: Progress, bar: TaskID, tally: Tally
) -> Iterator[Sample]:
    for found in examine(places):
        if isinstance(found, Skipped):
            progress.advance(bar)
            tally.skipped += 1
            report.print_skipped(found)
        else:
            yield found
