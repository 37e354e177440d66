"""A Storage SCU that sends Part 10 files as they are: what a modality would do."""

import shutil
import warnings
from collections.abc import Iterable, Iterator, Sequence
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

from local.errors import LocalCloudError, in_one_line
from local.files import Sample

# Presentation context ids are the odd numbers below 256 (PS3.8 9.3.2.2).
_MAX_CONTEXTS = 128
# An association proposes the contexts of what was read before it: so many samples at most.
_READ_AHEAD = 1_000
_CALLING_AE_TITLE = "LOCALSCU"
# What pynetdicom answers when no response came before its timeout.
NO_RESPONSE = -1
NO_CONTEXT = -2
NOT_SENT = -3


@dataclass(frozen=True, slots=True)
class Sent:
    """One C-STORE and its status (PS3.4 table B.2-1).

    Or ``NO_RESPONSE``, ``NO_CONTEXT``, or ``NOT_SENT`` with the ``error``.
    """

    sample: Sample
    status: int
    error: str = ""

    @property
    def acknowledged(self) -> bool:
        """Whether the Store SCP took responsibility for the instance."""
        return self.status == 0

    @property
    def reason(self) -> str:
        """Why it did not, for a person."""
        if self.status == NO_CONTEXT:
            sop_class, syntax = map(_name_of, _context_of(self.sample))
            return f"the Store SCP accepts no presentation context for {sop_class} in {syntax}"
        if self.status == NO_RESPONSE:
            return "no response; the association was aborted"
        if self.status == NOT_SENT:
            return f"it could not be sent ({self.error})"
        return f"refused with status {self.status:04X}H"


def send(samples: Iterable[Sample], host: str, port: int, called_ae_title: str) -> Iterator[Sent]:
    """Send each sample over as few associations as its contexts allow, yielding each answer.

    An association that ends early is followed by another for the rest. At most 1,000 samples are
    read ahead of their turn. Raises LocalCloudError when no association can be had.
    """
    _config.STORE_SEND_CHUNKED_DATASET = True  # the file's own bytes, never encoded anew
    rest = iter(samples)
    while pending := list(islice(rest, _READ_AHEAD)):
        while pending:
            wanted = dict.fromkeys(_context_of(each) for each in pending)
            contexts = list(islice(wanted, _MAX_CONTEXTS))
            now = [each for each in pending if _context_of(each) in contexts]
            later = [each for each in pending if _context_of(each) not in contexts]
            proposed = [build_context(*context) for context in contexts]
            done = 0
            for sent in _send_on_one_association(now, proposed, host, port, called_ae_title):
                done += 1
                yield sent
            pending = now[done:] + later


def _context_of(sample: Sample) -> tuple[str, str]:
    return sample.sop_class_uid, sample.transfer_syntax_uid


def _name_of(uid: str) -> str:
    """The standard's name of a UID (PS3.6 annex A), or the UID."""
    return UID(uid).name


def _send_on_one_association(
    samples: Sequence[Sample],
    contexts: list[PresentationContext],
    host: str,
    port: int,
    called_ae_title: str,
) -> Iterator[Sent]:
    """Answers for the first samples, at least one of them: all, unless the association ends."""
    entity = AE(ae_title=_CALLING_AE_TITLE)
    association = entity.associate(host, port, contexts, ae_title=called_ae_title)
    if not association.is_established:
        if association.rejected_contexts and not association.accepted_contexts:
            # The Store SCP accepted the association and none of its contexts.
            yield from (Sent(sample, NO_CONTEXT) for sample in samples)
            return
        raise LocalCloudError(
            f"No association with {called_ae_title} at {host}:{port}: it was "
            f"{'rejected' if association.is_rejected else 'refused or aborted'}."
        )
    try:
        with TemporaryDirectory() as work:
            yield from _store_each(association, samples, Path(work))
    finally:
        if association.is_established:
            association.release()


def _store_each(association: Association, samples: Sequence[Sample], work: Path) -> Iterator[Sent]:
    accepted = {
        (context.abstract_syntax, context.transfer_syntax[0])
        for context in association.accepted_contexts
    }
    for number, sample in enumerate(samples):
        if number and not association.is_established:
            return  # the Store SCP has ended it meanwhile
        if _context_of(sample) not in accepted:
            yield Sent(sample, NO_CONTEXT)
            continue
        sent = _store(association, sample, work)
        yield sent
        if sent.status in (NO_RESPONSE, NOT_SENT):
            return  # the association is over


def _store(association: Association, sample: Sample, work: Path) -> Sent:
    """One C-STORE. Without a response, or with half a data set sent, it ends the association."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd files are sent as they are
            response = association.send_c_store(_sendable(sample, work))
    except Exception as error:  # noqa: BLE001 - the file has changed, or pynetdicom cannot send it
        why = getattr(error, "strerror", None) or in_one_line(error)
        sent = Sent(sample, NOT_SENT, why)
    else:
        sent = Sent(sample, response.get("Status", NO_RESPONSE))
    if sent.status in (NO_RESPONSE, NOT_SENT) and association.is_established:
        association.abort()
    return sent


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
