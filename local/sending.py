"""``send``: DICOM files to a Store SCP, with a progress bar; what cannot be sent is named."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from rich.progress import Progress, TaskID

from local import report
from local.errors import LocalCloudError
from local.files import Found, LeftOut, Sample, Skipped, below, examine
from local.report import console
from local.scu import Sent, send


@dataclass(frozen=True, slots=True)
class Selection:
    """How many files are at and below some places, and what each is: it is examined once."""

    count: int
    found: Iterator[Found]


@dataclass(slots=True)
class Tally:
    """How many files came to which end. ``unsent``: no association could be had any more.

    ``left_out`` are no images, so that nothing is missing without them.
    """

    acknowledged: int = 0
    refused: int = 0
    skipped: int = 0
    unsent: int = 0
    left_out: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether there was an image to send, and each was acknowledged."""
        return self.acknowledged > 0 and not (self.refused or self.skipped or self.unsent)


def send_files(files: Sequence[str], host: str, port: int, ae_title: str) -> bool:
    """Whether all images, and those below each folder, were acknowledged.

    Raises LocalCloudError.
    """
    selection, tally = select([Path(each) for each in files]), Tally()
    for _ in deliver(selection, host, port, ae_title, tally):
        pass
    report.print_tally(tally)
    return tally.is_complete


def select(places: Sequence[Path]) -> Selection:
    """Raises LocalCloudError, each file's reason being printed, if nothing there can be sent.

    Files are examined up to the first that can; the others when their turn has come.
    """
    found, before = examine(places), list[Skipped | LeftOut]()
    for each in found:
        if isinstance(each, Sample):
            count = sum(1 for place in places for _ in below(place))
            return Selection(count, chain(before, [each], found))
        before.append(each)
    for each in before:
        report.print_unsent(each)
    raise LocalCloudError("Nothing was sent: there is no DICOM Part 10 file that can be.")


def deliver(
    selection: Selection, host: str, port: int, ae_title: str, tally: Tally
) -> Iterator[Sent]:
    """Send what can be sent of a selection, counting into ``tally``.

    What is left out, skipped, refused or not sent any more is printed at once. Raises
    LocalCloudError if the first association cannot be had.
    """
    with Progress(console=console) as progress:
        bar = progress.add_task("Sending", total=selection.count)
        try:
            samples = _samples(selection.found, progress, bar, tally)
            for sent in send(samples, host, port, ae_title):
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
            others = done + tally.skipped + tally.left_out
            tally.unsent = max(1, selection.count - others)
            report.print_line(f"NOT SENT: {tally.unsent} more files: {error.message}")


def _samples(
    found: Iterator[Found], progress: Progress, bar: TaskID, tally: Tally
) -> Iterator[Sample]:
    for each in found:
        if isinstance(each, Sample):
            yield each
            continue
        progress.advance(bar)
        tally.skipped += isinstance(each, Skipped)
        tally.left_out += isinstance(each, LeftOut)
        report.print_unsent(each)
