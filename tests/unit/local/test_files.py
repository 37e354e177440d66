"""Every file that can be there is either something to send, or has a reason; none is an error."""

import inspect
import os
import sys
import tracemalloc
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from local.files import LeftOut, Sample, Skipped, below, examine, judge

CT = Path(str(get_testdata_file("CT_small.dcm", download=False)))
DEEP = 3_000


def reason(path: Path) -> str:
    found = judge(path)
    assert isinstance(found, Skipped)
    assert found.path == path
    return found.reason


def nested(path: Path, tag: tuple[int, int]) -> Path:
    """CT_small with one sequence in the other, of undefined lengths, before what ``tag`` is."""
    data = CT.read_bytes()
    group, element = (each.to_bytes(2, "little") for each in tag)
    opened = group + element + b"SQ\x00\x00" + b"\xff" * 4 + b"\xfe\xff\x00\xe0" + b"\xff" * 4
    closed = b"\xfe\xff\x0d\xe0" + bytes(4) + b"\xfe\xff\xdd\xe0" + bytes(4)
    at = data.index(b"\x08\x00\x08\x00CS")  # ImageType, before the SOP Instance UID
    path.write_bytes(data[:at] + opened * DEEP + closed * DEEP + data[at:])
    return path


def test_a_file_that_is_nested_too_deeply_is_skipped(tmp_path: Path) -> None:
    assert "nested too deeply" in reason(nested(tmp_path / "deep.dcm", (0x0008, 0x0006)))


def test_what_is_nested_behind_the_uids_is_the_store_scps_to_judge(tmp_path: Path) -> None:
    path = tmp_path / "deep.dcm"
    data_set = pydicom.dcmread(CT)
    inner: Dataset = data_set
    for _ in range(60):
        item = Dataset()
        inner.add_new((0x0040, 0xA730), "SQ", Sequence([item]))
        inner = item
    data_set.save_as(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])  # and it ends within
    assert isinstance(judge(path), Sample)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (CT.read_bytes()[:140], "damaged|no transfer syntax"),
        (bytes(128) + b"DICM", "no transfer syntax"),
        (bytes(128) + b"DICM" + b"\xff" * 300, "damaged|no transfer syntax"),
        (CT.read_bytes().replace(b"1.2.840.10008.1.2.1\x00", b"DOE^JANE^MARIA^^^DR\x00"), "syntax"),
        (CT.read_bytes().replace(b"1.2.840.10008.5.1.4.1.1.2", b"x" * 25), "no SOP class"),
        (Path(str(get_testdata_file("ExplVR_LitEndNoMeta.dcm"))).read_bytes(), "header"),
        (Path(str(get_testdata_file("ExplVR_BigEndNoMeta.dcm"))).read_bytes(), "header"),
        (Path(str(get_testdata_file("rtstruct.dcm"))).read_bytes(), "header"),  # implicit VR
        (CT.read_bytes()[132:], "header"),  # its file meta is there
    ],
)
def test_what_cannot_be_sent_has_a_reason(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert any(each in reason(path) for each in why.split("|"))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it is no DICOM Part 10 file"),
        (b"%PDF-1.7" * 100, "it is no DICOM Part 10 file"),
        (bytes(1 << 20), "it is no DICOM Part 10 file"),
        (b"\x08\x00\x05\x00CS\xff\xff" * 100, "it is no DICOM Part 10 file"),
        (Path(str(get_testdata_file("DICOMDIR"))).read_bytes(), "it is a DICOMDIR"),
    ],
)
def test_what_is_no_image_is_left_out(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert judge(path) == LeftOut(path, why)


def fifo(path: Path) -> None:
    os.mkfifo(path)


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def circle(path: Path) -> None:
    path.symlink_to(path.name)


def link_to_folder(path: Path) -> None:
    (path.parent.parent / "elsewhere").mkdir()
    path.symlink_to("../elsewhere")


@pytest.mark.parametrize(
    ("make", "kind", "why"),
    [
        (fifo, LeftOut, "neither a file nor a folder"),
        (dangling, Skipped, "No such file"),
        (circle, Skipped, "symbolic links"),
        (link_to_folder, LeftOut, "a link to a folder"),
    ],
)
def test_what_is_no_file_is_named_and_its_neighbours_are_found(
    tmp_path: Path, make: Callable[[Path], None], kind: type[Skipped | LeftOut], why: str
) -> None:
    folder = tmp_path / "study"
    (folder / "b" / "series").mkdir(parents=True)
    good = [folder / "a", folder / "z", folder / "b" / "series" / "1"]
    for path in good:
        path.write_bytes(CT.read_bytes())
    make(folder / "odd")
    found = list(examine([folder]))
    assert sorted(each.path for each in found if isinstance(each, Sample)) == sorted(good)
    (odd,) = (each for each in found if isinstance(each, kind))
    assert odd.path == folder / "odd"
    assert why in odd.reason


def test_places_that_are_not_there_or_no_files_are_named(tmp_path: Path) -> None:
    fifo(tmp_path / "pipe")
    (gone, pipe, good) = examine([tmp_path / "gone", tmp_path / "pipe", CT])
    assert isinstance(gone, Skipped)
    assert isinstance(pipe, LeftOut)
    assert isinstance(good, Sample)
    assert "No such file" in gone.reason


def test_a_file_without_permission_and_one_that_vanishes_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The tests may run as root, whom no mode stops.
    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "ct"
    assert "No such file" in reason(path)
    path.write_bytes(CT.read_bytes())
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", denied)
        assert reason(path) == "it cannot be read (Permission denied)"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", denied)
        assert [each for each in below(tmp_path) if isinstance(each, Skipped)] == [
            Skipped(tmp_path, "it cannot be read (Permission denied)")
        ]


def test_folders_are_searched_however_deep_they_are(tmp_path: Path) -> None:
    here = tmp_path
    for _ in range(400):
        here = here / "a"
        here.mkdir()
    (here / "ct").write_bytes(CT.read_bytes())
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 100)
    try:
        assert list(below(tmp_path)) == [here / "ct"]
    finally:
        sys.setrecursionlimit(limit)


def test_a_deflated_file_is_not_inflated_whole(tmp_path: Path) -> None:
    source = Path(str(get_testdata_file("image_dfl.dcm"))).read_bytes()
    at = source.index(b"1.2.840.10008.1.2.1.99")
    length = int.from_bytes(source[140:144], "little")
    meta, inflated = source[: 144 + length], zlib.decompress(source[144 + length :], -15)
    assert at < len(meta)
    private = b"\x09\x00\x01\x10OB\x00\x00" + (1 << 26).to_bytes(4, "little")
    deflate = zlib.compressobj(9, wbits=-15)
    cut = inflated.index(b"\x10\x00")  # the patient's group
    path = tmp_path / "bomb.dcm"
    with path.open("wb") as file:
        file.write(meta + deflate.compress(inflated[:cut] + private))
        for _ in range(1 << 6):
            file.write(deflate.compress(bytes(1 << 20)))
        file.write(deflate.flush())
    tracemalloc.start()
    try:
        found = judge(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 22
    assert isinstance(found, Sample)
    assert found.transfer_syntax_uid == "1.2.840.10008.1.2.1.99"


def test_every_file_that_pydicom_ships_is_judged() -> None:
    root = Path(pydicom.__file__).parent / "data"
    found = list(examine([root]))
    sent = [each for each in found if isinstance(each, Sample)]
    assert len(found) == sum(path.is_file() for path in root.rglob("*"))
    assert len(sent) > 80
    for sample in sent:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data_set = pydicom.dcmread(sample.path, stop_before_pixels=True)
        own = data_set.get("SOPInstanceUID") or data_set.file_meta.MediaStorageSOPInstanceUID
        assert sample.sop_instance_uid == own, sample.path


CORPUS = [
    path.read_bytes()[:4096]
    for path in sorted((Path(pydicom.__file__).parent / "data" / "test_files").glob("*.dcm"))
]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_files_are_judged_whatever_the_damage(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(CORPUS)))
    for _ in range(data.draw(st.integers(0, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    assert isinstance(judge(path), Sample | Skipped | LeftOut)
