"""Every transfer syntax DCMTK's storescu proposes: what it sent is what is stored, bit for bit."""

from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, generate_uid
from pydicom.uid import MultiFrameTrueColorSecondaryCaptureImageStorage as VideoClass

from tests.interop.archives import Archive
from tests.interop.programs import sample, succeed

# storescu's option, and the transfer syntax it proposes first.
UNCOMPRESSED = (
    ("-x=", "1.2.840.10008.1.2.1"),
    ("-xe", "1.2.840.10008.1.2.1"),
    ("-xb", "1.2.840.10008.1.2.2"),
    ("-xi", "1.2.840.10008.1.2"),
)
# storescu's option, the transfer syntax it proposes, and a file of pydicom's in it, if there is.
COMPRESSED = (
    ("-xs", "1.2.840.10008.1.2.4.70", "SC_rgb_jpeg_gdcm.dcm"),
    ("-xy", "1.2.840.10008.1.2.4.50", "examples_ybr_color.dcm"),
    ("-xx", "1.2.840.10008.1.2.4.51", "JPEG-lossy.dcm"),
    ("-xv", "1.2.840.10008.1.2.4.90", "examples_jpeg2k.dcm"),
    ("-xw", "1.2.840.10008.1.2.4.91", "MR2_J2KI.dcm"),
    ("-xt", "1.2.840.10008.1.2.4.80", "MR_small_jpeg_ls_lossless.dcm"),
    ("-xu", "1.2.840.10008.1.2.4.81", None),
    ("-xm", "1.2.840.10008.1.2.4.100", None),
    ("-xh", "1.2.840.10008.1.2.4.101", None),
    ("-xn", "1.2.840.10008.1.2.4.102", None),
    ("-xl", "1.2.840.10008.1.2.4.103", None),
    ("-x2", "1.2.840.10008.1.2.4.104", None),
    ("-x3", "1.2.840.10008.1.2.4.105", None),
    ("-xo", "1.2.840.10008.1.2.4.106", None),
    ("-x4", "1.2.840.10008.1.2.4.107", None),
    ("-x5", "1.2.840.10008.1.2.4.108", None),
    ("-xr", "1.2.840.10008.1.2.5", "MR_small_RLE.dcm"),
    ("-xd", "1.2.840.10008.1.2.1.99", "image_dfl.dcm"),
)


def video(transfer_syntax: str, folder: Path) -> Path:
    """A file in a transfer syntax that pydicom has none in; nobody here looks into its frames."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = UID(transfer_syntax)
    image.SOPClassUID = VideoClass
    image.SOPInstanceUID = generate_uid()
    image.StudyInstanceUID = generate_uid()
    image.SeriesInstanceUID = generate_uid()
    image.SamplesPerPixel = 1
    image.Rows = image.Columns = 16
    image.BitsAllocated = 8
    image.PixelData = encapsulate([bytes(range(256)) * 300])
    image["PixelData"].VR = "OB"
    path = folder / "video.dcm"
    image.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize(("option", "transfer_syntax"), UNCOMPRESSED)
def test_what_storescu_sends_uncompressed_is_stored_as_sent(
    ours: Archive, reference: Archive, option: str, transfer_syntax: str
) -> None:
    files = [sample(n) for n in ("CT_small.dcm", "rtplan.dcm", "MR_small_implicit.dcm")]

    def send(port: int) -> str:
        return succeed("storescu", option, "127.0.0.1", str(port), *files)

    held = ours.takes(send)
    assert held == reference.takes(send)
    assert held.total() == len(files)
    assert transfer_syntax in {each.transfer_syntax for each in held}


@pytest.mark.parametrize(("option", "transfer_syntax", "name"), COMPRESSED)
def test_what_storescu_sends_compressed_is_stored_as_sent(
    ours: Archive,
    reference: Archive,
    tmp_path: Path,
    option: str,
    transfer_syntax: str,
    name: str | None,
) -> None:
    file = sample(name) if name else video(transfer_syntax, tmp_path)

    def send(port: int) -> str:
        return succeed("storescu", option, "127.0.0.1", str(port), file)

    held = ours.takes(send)
    assert held == reference.takes(send)
    assert [each.transfer_syntax for each in held] == [transfer_syntax]


@pytest.mark.parametrize("ways", [("--required",), ("--combine",), ("--required", "--combine")])
def test_fewer_or_combined_contexts_carry_the_same_bytes(
    ours: Archive, reference: Archive, ways: tuple[str, ...]
) -> None:
    def send(port: int) -> str:
        image = sample("MR_small_RLE.dcm")
        return succeed("storescu", *ways, "-xr", "127.0.0.1", str(port), image)

    assert ours.takes(send) == reference.takes(send)


def test_dcmsend_sends_each_file_in_a_context_of_its_own_transfer_syntax(
    ours: Archive, reference: Archive
) -> None:
    files = [sample(each) for _, _, each in COMPRESSED if each] + [sample("CT_small.dcm")]

    def send(port: int) -> str:
        return succeed("dcmsend", "--decompress-never", "127.0.0.1", str(port), *files)

    held = ours.takes(send)
    assert held == reference.takes(send)
    assert len({each.transfer_syntax for each in held}) == len(files)
