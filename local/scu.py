"""A Storage SCU that sends Part 10 files as they are: what a modality would do."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from pydicom.filebase import DicomFileLike
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID
from pynetdicom import AE, _config
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context

from local.errors import LocalCloudError
from local.samples import Sample

# Presentation context ids are the odd numbers below 256 (PS3.8 9.3.2.2).
_MAX_CONTEXTS = 128
_CALLING_AE_TITLE = "LOCALSCU"
# What pynetdicom answers when no response came before its timeout.
NO_RESPONSE = -1
NO_CONTEXT = -2


@dataclass(frozen=True, slots=True)
class Sent:
    """One C-STORE and its status (PS3.4 table B.2-1); or ``NO_RESPONSE``, ``NO_CONTEXT``."""

    sample: Sample
    status: int

    @property
    def acknowledged(self) -> bool:
        """Whether the Store SCP took responsibility for the instance."""
        return self.status == 0

    @property
    def reason(self) -> str:
        """Why it did not, for a person."""
        if self.status == NO_CONTEXT:
            return "the Store SCP accepts no presentation context for it"
        if self.status == NO_RESPONSE:
            return "no response; the association was aborted"
        return f"refused with status {self.status:04X}H"


def send(samples: Sequence[Sample], host: str, port: int, called_ae_title: str) -> Iterator[Sent]:
    """Send each sample over as few associations as its contexts allow, yielding each answer.

    Raises LocalCloudError when no association can be had.
    """
    _config.STORE_SEND_CHUNKED_DATASET = True  # the file's own bytes, never encoded anew
    pending = list(samples)
    while pending:
        contexts = list(islice(dict.fromkeys(_context_of(each) for each in pending), _MAX_CONTEXTS))
        now = [each for each in pending if _context_of(each) in contexts]
        pending = [each for each in pending if _context_of(each) not in contexts]
        proposed = [build_context(*context) for context in contexts]
        yield from _send_on_one_association(now, proposed, host, port, called_ae_title)


def _context_of(sample: Sample) -> tuple[str, str]:
    return sample.sop_class_uid, sample.transfer_syntax_uid


def _send_on_one_association(
    samples: Sequence[Sample],
    contexts: list[PresentationContext],
    host: str,
    port: int,
    called_ae_title: str,
) -> Iterator[Sent]:
    entity = AE(ae_title=_CALLING_AE_TITLE)
    association = entity.associate(host, port, contexts, ae_title=called_ae_title)
    if not association.is_established:
        raise LocalCloudError(
            f"No association with {called_ae_title} at {host}:{port}: it was "
            f"{'rejected' if association.is_rejected else 'refused or aborted'}."
        )
    try:
        with TemporaryDirectory() as work:
            yield from _store_each(association, samples, Path(work))
    finally:
        association.release()


def _store_each(association: Association, samples: Sequence[Sample], work: Path) -> Iterator[Sent]:
    accepted = {
        (context.abstract_syntax, context.transfer_syntax[0])
        for context in association.accepted_contexts
    }
    for sample in samples:
        if _context_of(sample) in accepted:
            response = association.send_c_store(_sendable(sample, work))
            yield Sent(sample, response.get("Status", NO_RESPONSE))
        else:
            yield Sent(sample, NO_CONTEXT)


def _sendable(sample: Sample, work: Path) -> Path:
    """The sample, or a copy whose file meta tells what the data set is: pynetdicom goes by that."""
    if sample.is_consistent:
        return sample.path
    copy = work / "instance"
    with sample.path.open("rb") as source, copy.open("wb") as target:
        read_preamble(source, force=False)
        meta = _read_file_meta_info(source)
        meta.MediaStorageSOPClassUID = UID(sample.sop_class_uid)
        meta.MediaStorageSOPInstanceUID = UID(sample.sop_instance_uid)
        target.write(bytes(128) + b"DICM")
        write_file_meta_info(DicomFileLike(target), meta, enforce_standard=False)
        shutil.copyfileobj(source, target)
    return copy
