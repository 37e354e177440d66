"""What can be sent of the files below some places: found and examined one after the other."""

import os
import stat
import warnings
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import _read_file_meta_info, read_dataset, read_partial, read_preamble
from pydicom.tag import BaseTag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)

from contract.uids import is_uid

# So much is read of what is not of Part 10, and inflated of a deflated data set, to find its first
# elements.
_BEGINNING_BYTES = 64 * 1024
_SOP_INSTANCE_UID = 0x00080018
_NO_FILE_META = (
    "it is a data set without the header of DICOM Part 10, which names its transfer syntax; "
    "DCMTK's dcmconv writes one"
)


@dataclass(frozen=True, slots=True)
class Sample:
    """A Part 10 file, what an association must propose to send it, and the data set's own UIDs.

    ``is_consistent``: the file meta information names the same instance as the data set.
    """

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    is_consistent: bool = True


@dataclass(frozen=True, slots=True)
class Skipped:
    """What may be an image and cannot be sent, and why: a clause that begins with "it"."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What is no image, as every CD has it beside its images: a DICOMDIR, a text, a link, a pipe.

    The ``reason`` is a clause that begins with "it".
    """

    path: Path
    reason: str


Found = Sample | Skipped | LeftOut


class _NotSendableError(Exception):
    """The message is the reason."""


def examine(places: Iterable[Path]) -> Iterator[Found]:
    """What each file is at and below ``places``; one file is open at a time, and none is kept."""
    for place in places:
        for found in below(place):
            yield judge(found) if isinstance(found, Path) else found


def below(place: Path) -> Iterator[Path | Skipped | LeftOut]:
    """``place`` itself, or every file below it: a folder's own files before its folders."""
    folders = [place]
    while folders:
        path = folders.pop()
        try:
            mode = path.stat().st_mode
            entries = sorted(path.iterdir()) if stat.S_ISDIR(mode) else []
        except OSError as error:
            yield Skipped(path, _unreadable(error))
            continue
        if not stat.S_ISDIR(mode):
            yield from _regular(path)
        within = []
        for entry in entries:
            if os.path.islink(entry) and entry.is_dir():  # noqa: PTH114 - as the path stands
                yield LeftOut(entry, "it is a link to a folder; name that folder itself")
            elif _is_folder(entry):
                within.append(entry)
            else:
                yield from _regular(entry)
        folders += reversed(within)


def judge(path: Path) -> Found:
    """What a file is. Whatever is wrong with it is a reason, never an exception.

    Only its beginning is read, up to its SOP Instance UID: whatever comes later is the Store SCP's
    to judge.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd files are sent as they are
            return _read(path)
    except _NotSendableError as error:
        return Skipped(path, str(error))
    except OSError as error:
        return Skipped(path, _unreadable(error))
    except RecursionError:
        return Skipped(path, "it is nested too deeply to be read")
    except Exception as error:  # noqa: BLE001 - pydicom raises many kinds, as the file is damaged
        return Skipped(path, f"it is damaged ({type(error).__name__})")


def _regular(path: Path) -> Iterator[Path | Skipped | LeftOut]:
    """Not a pipe or a device: to open one may wait for ever."""
    try:
        is_regular = stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        yield Skipped(path, _unreadable(error))
        return
    yield path if is_regular else LeftOut(path, "it is neither a file nor a folder")


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False  # what is wrong with it is found when it is read


def _read(path: Path) -> Sample | LeftOut:
    with path.open("rb") as file:
        try:
            read_preamble(file, force=False)
        except InvalidDicomError:
            file.seek(0)
            if _is_instance(file.read(_BEGINNING_BYTES)):
                raise _NotSendableError(_NO_FILE_META) from None
            return LeftOut(path, "it is no DICOM Part 10 file")
        meta = _read_file_meta_info(file)
        syntax = _text(meta, "TransferSyntaxUID")
        if not is_uid(syntax):
            raise _NotSendableError("it names no transfer syntax")
        data_set = _beginning(file, syntax)
    named = _text(meta, "MediaStorageSOPClassUID"), _text(meta, "MediaStorageSOPInstanceUID")
    sop_class = _text(data_set, "SOPClassUID") or named[0]
    sop_instance = _text(data_set, "SOPInstanceUID") or named[1]
    if sop_class == MediaStorageDirectoryStorage:
        return LeftOut(path, "it is a DICOMDIR")
    if not (is_uid(sop_class) and sop_instance):
        raise _NotSendableError("it names no SOP class or no instance")
    own = sop_class, sop_instance
    return Sample(path, *own, syntax, own == named)


def _is_instance(beginning: bytes) -> bool:
    """Whether a file that is not of Part 10 begins with a data set of an instance all the same.

    Which transfer syntax it has, only pydicom guesses: it is not sent on a guess.
    """
    try:
        data_set = read_partial(BytesIO(beginning), _behind_uids, force=True)
        return is_uid(_text(data_set, "SOPClassUID")) and "SOPInstanceUID" in data_set
    except Exception:  # noqa: BLE001 - it is anything
        return False


def _behind_uids(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return int(tag) > _SOP_INSTANCE_UID


def _beginning(file: BinaryIO, syntax: str) -> Dataset:
    """The data set's elements up to the SOP Instance UID."""
    if syntax == DeflatedExplicitVRLittleEndian:
        deflated = file.read(_BEGINNING_BYTES)
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        file = BytesIO(inflate.decompress(deflated, _BEGINNING_BYTES))
    return read_dataset(
        file,
        is_implicit_VR=syntax == ImplicitVRLittleEndian,
        is_little_endian=syntax != ExplicitVRBigEndian,
        stop_when=_behind_uids,
    )


def _text(elements: Dataset | FileMetaDataset, name: str) -> str:
    return str(elements.get(name) or "")


def _unreadable(error: OSError) -> str:
    return f"it cannot be read ({error.strerror or type(error).__name__})"
