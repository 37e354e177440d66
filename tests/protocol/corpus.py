"""Every file that pydicom ships and that C-STORE can carry, as it would be sent."""

import io
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import data_store  # type: ignore[import-untyped]
import pydicom
from pydicom.filereader import _read_file_meta_info, read_preamble
from store_scp.negotiation import is_storage

from contract.header import Header, HeaderUnreadable, read_header


@dataclass(frozen=True)
class Sample:
    """One file's data set, byte for byte, and what a sender has to know about it."""

    name: str
    transfer_syntax: str
    header: Header
    data_set: bytes


def samples() -> Iterator[Sample]:
    """The first file of every SOP Instance UID."""
    seen = set()
    roots = (Path(pydicom.__file__).parent / "data", Path(str(data_store.__file__)).parent)
    for path in sorted(path for root in roots for path in root.rglob("*") if path.is_file()):
        sample = _sample(path)
        if sample and sample.header.sop_instance_uid not in seen:
            seen.add(sample.header.sop_instance_uid)
            yield sample


def _sample(path: Path) -> Sample | None:
    raw = path.read_bytes()
    if raw[128:132] != b"DICM":
        return None
    stream = io.BytesIO(raw)
    read_preamble(stream, force=False)
    meta = _read_file_meta_info(stream)
    with suppress(HeaderUnreadable, AttributeError):  # no header to store it by; no transfer syntax
        data_set = raw[stream.tell() :]
        transfer_syntax = str(meta.TransferSyntaxUID)
        header = read_header(memoryview(data_set), transfer_syntax)
        if is_storage(header.sop_class_uid):
            return Sample(path.name, transfer_syntax, header, data_set)
    return None
