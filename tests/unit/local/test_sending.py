"""What ``send`` says and sends, to a Store SCP that is not ours: one bad file stops nobody."""

import gc
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from click.testing import CliRunner, Result
from pydicom.data import get_testdata_file
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    generate_uid,
)
from pynetdicom import AE, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event

from local import files, scu
from local.cli import main
from local.files import Sample, examine, judge
from local.scu import send
from tests.unit.local.test_files import nested

CT = Path(str(get_testdata_file("CT_small.dcm", download=False)))
RT_DOSE = Path(str(get_testdata_file("rtdose.dcm", download=False)))
JPEG_2000 = Path(str(get_testdata_file("JPEG2000.dcm", download=False)))
# pynetdicom leaves a socket to the garbage collector here and there.
pytestmark = pytest.mark.filterwarnings("ignore:.*socket:pytest.PytestUnraisableExceptionWarning")


class Scp:
    """Takes CT images in Explicit VR Little Endian; what it answers, the test may choose."""

    def __init__(self) -> None:
        self.stored: list[str] = []
        self.associations = 0
        self.answer: Callable[[Event], int] = lambda _: 0
        entity = AE("STORESCP")
        entity.add_supported_context(CTImageStorage, ExplicitVRLittleEndian)
        handlers: list[Any] = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_ESTABLISHED, self._established),
        ]
        server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        assert server is not None
        self._server = server
        self.port = int(server.server_address[1])

    def stop(self) -> None:
        self._server.shutdown()

    def close(self) -> None:
        """Listen no more."""
        assert self._server.socket is not None
        self._server.socket.close()

    def _established(self, _: Event) -> None:
        self.associations += 1

    def _store(self, event: Event) -> int:
        status = self.answer(event)
        if status == 0:
            self.stored.append(sop_instance_of(event))
        return status


@pytest.fixture
def scp() -> Iterator[Scp]:
    running = Scp()
    yield running
    running.stop()
    gc.collect()


def slices(folder: Path, count: int) -> list[str]:
    folder.mkdir(exist_ok=True)
    data_set = pydicom.dcmread(CT)
    uids = [generate_uid() for _ in range(count)]
    for number, uid in enumerate(uids):
        data_set.SOPInstanceUID = data_set.file_meta.MediaStorageSOPInstanceUID = uid
        data_set.save_as(folder / f"{number:03}.dcm")
    return [str(uid) for uid in uids]


def run_send(scp: Scp, *places: Path) -> Result:
    done = CliRunner().invoke(main, ["send", "--port", str(scp.port), *map(str, places)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def sop_instance_of(event: Event) -> str:
    assert isinstance(event.request, C_STORE)
    return str(event.request.AffectedSOPInstanceUID)


def hang_up(event: Event) -> None:
    """The connection ends, as when the Store SCP's process does."""
    connection = event.assoc.dul.socket
    assert connection is not None
    assert connection.socket is not None
    connection.socket.shutdown(socket.SHUT_RDWR)


def test_bad_files_are_named_and_all_the_others_are_sent(scp: Scp, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    uids = slices(folder, 5)
    nested(folder / "002-deep.dcm", (0x0008, 0x0006))
    (folder / "001-[bold]notes[bold].txt").write_text("not DICOM")
    (folder / "001-\x1b[31m.txt").write_text("not DICOM")
    (folder / os.fsdecode(b"003-\xff.dcm")).write_bytes(bytes(128) + b"DICM")
    (folder / "dangling.dcm").symlink_to("nowhere")
    shutil.copy(RT_DOSE, folder / "000-dose.dcm")
    shutil.copy(JPEG_2000, folder / "000-jpeg.dcm")
    done = run_send(scp, folder, tmp_path / "gone")
    assert sorted(scp.stored) == sorted(uids)
    assert done.exit_code == 1
    for said in (
        f"SKIPPED: {folder}/002-deep.dcm: it is nested too deeply",
        f"LEFT OUT: {folder}/001-[bold]notes[bold].txt: it is no DICOM Part 10 file",
        f"LEFT OUT: {folder}/001-\\x1b[31m.txt: it is no DICOM Part 10 file",
        f"SKIPPED: {folder}/003-\\udcff.dcm: it",
        f"SKIPPED: {folder}/dangling.dcm: it cannot be read (No such file or directory)",
        f"SKIPPED: {tmp_path}/gone: it cannot be read (No such file or directory)",
        f"NOT STORED: {folder}/000-dose.dcm: the Store SCP accepts no presentation context",
        "for RT Dose Storage in Implicit VR Little Endian",
        "5 acknowledged, 2 refused, 4 skipped, 0 not sent, 2 left out.",
        "send it again",
    ):
        assert said in done.stdout
    assert done.stderr == ""


def test_an_ordinary_cd_is_sent_as_it_is(scp: Scp, tmp_path: Path) -> None:
    cd = tmp_path / "a CD, with spaces"
    uids = slices(cd, 3)
    shutil.copy(str(get_testdata_file("DICOMDIR", download=False)), cd / "DICOMDIR")
    (cd / "README.txt").write_text("Viewer: run START.EXE")
    (cd / "empty.dcm").touch()
    (tmp_path / "viewer").mkdir()
    (cd / "viewer").symlink_to("../viewer")
    os.mkfifo(cd / "pipe")
    done = run_send(scp, cd)
    assert sorted(scp.stored) == sorted(uids)
    assert done.exit_code == 0
    for name, why in (
        ("DICOMDIR", "it is a DICOMDIR"),
        ("README.txt", "it is no DICOM Part 10 file"),
        ("empty.dcm", "it is no DICOM Part 10 file"),
        ("viewer", "it is a link to a folder; name that folder itself"),
        ("pipe", "it is neither a file nor a folder"),
    ):
        assert f"LEFT OUT: {cd}/{name}: {why}\n" in done.stdout
    last = done.stdout.splitlines()[-1]
    assert last == "3 acknowledged, 0 refused, 0 skipped, 0 not sent, 5 left out."


def test_an_image_without_the_header_of_part_10_is_no_success(scp: Scp, tmp_path: Path) -> None:
    slices(tmp_path, 1)
    shutil.copy(str(get_testdata_file("ExplVR_LitEndNoMeta.dcm", download=False)), tmp_path / "old")
    done = run_send(scp, tmp_path)
    assert done.exit_code == 1
    assert f"SKIPPED: {tmp_path}/old: it is a data set without the header" in done.stdout
    assert "1 acknowledged, 0 refused, 1 skipped, 0 not sent, 0 left out." in done.stdout
    assert "send it again" in done.stdout.splitlines()[-1]


def test_each_file_is_examined_once(
    scp: Scp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slices(tmp_path, 3)
    (tmp_path / "000").write_text("not DICOM")
    judged: list[str] = []

    def counted(path: Path) -> files.Found:
        judged.append(path.name)
        return judge(path)

    monkeypatch.setattr(files, "judge", counted)
    assert run_send(scp, tmp_path).exit_code == 0
    assert judged == ["000", "000.dcm", "001.dcm", "002.dcm"]


def test_when_all_is_stored_the_command_succeeds(scp: Scp, tmp_path: Path) -> None:
    slices(tmp_path, 3)
    done = run_send(scp, tmp_path)
    assert done.exit_code == 0
    assert (
        done.stdout.splitlines()[-1]
        == "3 acknowledged, 0 refused, 0 skipped, 0 not sent, 0 left out."
    )
    assert scp.associations == 1


def test_files_none_of_which_the_scp_takes_are_refused_one_by_one(scp: Scp) -> None:
    done = run_send(scp, RT_DOSE, JPEG_2000)
    assert done.exit_code == 1
    assert done.stdout.count("NOT STORED: ") == 2
    assert "0 acknowledged, 2 refused, 0 skipped, 0 not sent," in done.stdout


def test_a_refusal_says_its_status_and_the_rest_is_sent(scp: Scp, tmp_path: Path) -> None:
    uids = slices(tmp_path, 3)
    scp.answer = lambda event: 0xC000 if sop_instance_of(event) == uids[1] else 0
    done = run_send(scp, tmp_path)
    assert f"NOT STORED: {tmp_path}/001.dcm: refused with status C000H" in done.stdout
    assert "2 acknowledged, 1 refused, 0 skipped, 0 not sent," in done.stdout
    assert done.exit_code == 1
    assert "status" in done.stdout.splitlines()[-1]


def test_an_association_that_ends_early_is_followed_by_another(scp: Scp, tmp_path: Path) -> None:
    uids = slices(tmp_path, 4)

    def abort(event: Event) -> int:
        if sop_instance_of(event) == uids[1]:
            hang_up(event)
        return 0

    scp.answer = abort
    done = run_send(scp, tmp_path)
    assert set(uids) - {uids[1]} <= set(scp.stored)
    assert f"NOT STORED: {tmp_path}/001.dcm: no response" in done.stdout
    assert "3 acknowledged, 1 refused" in done.stdout
    assert scp.associations == 2


def test_a_file_that_vanishes_or_changes_while_it_is_sent_is_refused_alone(
    scp: Scp, tmp_path: Path
) -> None:
    uids = slices(tmp_path, 4)
    found = [each for each in examine([tmp_path]) if isinstance(each, Sample)]
    found[1].path.unlink()
    found[2].path.write_bytes(b"no DICOM any more")
    sent = list(send(found, "127.0.0.1", scp.port, "STORESCP"))
    assert [each.acknowledged for each in sent] == [True, False, False, True]
    assert "No such file or directory" in sent[1].reason
    assert "InvalidDicomError" in sent[2].reason
    assert scp.stored == [uids[0], uids[3]]


def test_when_the_scp_goes_away_what_was_not_sent_is_counted(scp: Scp, tmp_path: Path) -> None:
    uids = slices(tmp_path, 5)
    (tmp_path / "notes.txt").write_text("not DICOM")

    def go_away(event: Event) -> int:
        if sop_instance_of(event) == uids[1]:
            scp.close()
            hang_up(event)
        return 0

    scp.answer = go_away
    done = run_send(scp, tmp_path)
    assert done.exit_code == 1
    assert "NOT SENT: 3 more files: No association with STORESCP" in done.stdout
    assert "1 acknowledged, 1 refused, 0 skipped, 3 not sent, 1 left out." in done.stdout
    assert "Send the same files again" in done.stdout


def test_files_are_examined_as_they_are_sent_and_not_all_before(
    scp: Scp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scu, "_READ_AHEAD", 2)
    slices(tmp_path, 6)
    examined = 0

    def counted() -> Iterator[Sample]:
        nonlocal examined
        for each in examine([tmp_path]):
            assert isinstance(each, Sample)
            examined += 1
            yield each

    ahead = [
        examined - number
        for number, _ in enumerate(send(counted(), "127.0.0.1", scp.port, "STORESCP"), 1)
    ]
    assert len(ahead) == 6
    assert max(ahead) <= 1
