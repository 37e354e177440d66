"""What was stored, compared by its data sets only."""

import hashlib
import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from bench.receiver.check import (
    count_objects,
    data_set_offset,
    decode_aws_chunked,
    files_in,
    objects_in,
)

DATA_SET = b"\x08\x00\x16\x00UI\x02\x001\x00" * 40
DIGEST = hashlib.sha256(DATA_SET).hexdigest()


def part10(data_set: bytes) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = UID("2.25.1")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    target = DicomBytesIO()
    write_file_meta_info(target, meta)
    return bytes(128) + b"DICM" + target.getvalue() + data_set


def aws_chunked(body: bytes, size: int) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return framed + b"0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"


def test_a_part_10_file_counts_by_its_data_set_wherever_it_lies(tmp_path: Path) -> None:
    nested = tmp_path / "study" / "series"
    nested.mkdir(parents=True)
    (nested / "any name").write_bytes(part10(DATA_SET))
    assert files_in(tmp_path) == {DIGEST}


def test_one_changed_byte_is_another_digest(tmp_path: Path) -> None:
    (tmp_path / "1").write_bytes(part10(DATA_SET[:-1] + b"2"))
    assert DIGEST not in files_in(tmp_path)


def test_an_object_is_its_parts_in_order_and_a_manifest_is_no_instance(tmp_path: Path) -> None:
    whole = part10(DATA_SET)
    (tmp_path / "2").write_bytes(whole[:400])
    (tmp_path / "1").write_bytes(aws_chunked(whole[400:], 100))
    (tmp_path / "3").write_bytes(b"{}")
    entries = [
        {"key": "/bench/instances/b/1.dcm", "parts": [["2", False], ["1", True]]},
        {"key": "/bench/batches/b.json", "parts": [["3", False]]},
    ]
    lines = "".join(f"{json.dumps(entry)}\n" for entry in entries)
    (tmp_path / "objects.jsonl").write_text(lines)
    assert objects_in(tmp_path) == {DIGEST}
    assert count_objects(tmp_path) == 1


@given(st.binary(max_size=200), st.integers(1, 50))
def test_an_aws_chunked_body_gives_what_was_framed(body: bytes, size: int) -> None:
    assert b"".join(decode_aws_chunked(aws_chunked(body, size))) == body


@given(st.binary(max_size=300))
def test_any_file_has_an_offset(first: bytes) -> None:
    assert data_set_offset(first) >= 0
