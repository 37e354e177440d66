import hashlib
import io

import pytest
from pydicom.filereader import dcmread
from pydicom.uid import UID
from store_scp.dimse.status import Status
from store_scp.part10 import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    file_meta,
    header_refused,
)

from contract.header import Defect, HeaderUnreadable
from tests.unit.store_scp.builders import EXPLICIT_LE, data_set


def test_the_file_meta_is_what_pydicom_reads_back() -> None:
    meta = dcmread(io.BytesIO(file_meta("1.2.3", "1.2.33", EXPLICIT_LE) + data_set())).file_meta
    assert meta.FileMetaInformationVersion == b"\x00\x01"
    assert meta.MediaStorageSOPClassUID == "1.2.3"
    assert meta.MediaStorageSOPInstanceUID == "1.2.33"
    assert meta.TransferSyntaxUID == EXPLICIT_LE
    assert meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    assert meta.ImplementationVersionName == IMPLEMENTATION_VERSION_NAME
    assert "SourceApplicationEntityTitle" not in meta
    assert UID(IMPLEMENTATION_CLASS_UID).is_valid


def test_equal_instances_give_equal_files_whatever_the_release() -> None:
    """The bytes are fixed: a change here gives every stored instance a second identity."""
    meta = file_meta("1.2.840.10008.5.1.4.1.1.2", "1.2.3.4", EXPLICIT_LE)
    digest = "aaff287b95d03a4bde0bf83c8e15da4b22bd5c326b9aa7eafa077db4f61e0ed2"
    assert hashlib.sha256(meta).hexdigest() == digest


# The receiver writes the file meta itself: what may be wrong with one is never a peer's.
OF_A_FILE = {Defect.NOT_PART10, Defect.NO_TRANSFER_SYNTAX}


@pytest.mark.parametrize("defect", [each for each in Defect if each not in OF_A_FILE])
def test_each_defect_of_a_data_set_has_its_own_status_and_says_more(defect: Defect) -> None:
    refused = header_refused(HeaderUnreadable(defect, "tags out of order"))
    assert (refused.status, refused.detail) == (Status[defect.name], "tags out of order")
