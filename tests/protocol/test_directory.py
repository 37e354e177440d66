"""The directory while workers die, others write to it, and its disk goes and comes back."""

import json
import shutil
from pathlib import Path

import pytest

from tests.protocol.peer import Peer
from tests.protocol.receiver import ReceiverProcess
from tests.protocol.vitals import CT, GOOD, GOOD_INSTANCE, store_well, unfinished, until
from tests.unit.store_scp.builders import CT_IMAGE, SOP_INSTANCE, data_set

OTHER = data_set(replaced={SOP_INSTANCE: b"1.2.3.77"}, pixels=bytes(20 * 1024**2))
HALF = len(OTHER) // 2


def begin(peer: Peer, process: ReceiverProcess) -> None:
    """Send the first half of an instance, of which a part is in a file then."""
    before = len(unfinished(process))
    peer.start_store(CT_IMAGE, "1.2.3.77", OTHER[:HALF])
    until(lambda: len(unfinished(process)) == before + 1, "no partial file")


@pytest.mark.fault("killed-or-stopped")
def test_a_killed_workers_partial_files_go_when_its_successor_starts(tmp_path: Path) -> None:
    with ReceiverProcess(STORAGE_DIR=str(tmp_path)) as process:
        with Peer(process.port, CT) as peer:
            begin(peer, process)
            process.workers()[0].kill()
            assert peer.aborted_by() == -1
        until(lambda: not unfinished(process), "the partial file stays")
        store_well(process)


def test_what_a_killed_receiver_left_goes_at_the_next_start(tmp_path: Path) -> None:
    process = ReceiverProcess(STORAGE_DIR=str(tmp_path))
    with process.unread() as (port, killed), Peer(port, CT) as peer:
        begin(peer, process)
        killed.kill()
        assert peer.aborted_by() == -1
    with ReceiverProcess(STORAGE_DIR=str(tmp_path)) as again:
        assert not unfinished(again)
        store_well(again)
    assert list((tmp_path / ".incoming").iterdir()) == []


def test_a_second_receiver_leaves_the_partial_files_of_the_first_alone(tmp_path: Path) -> None:
    with (
        ReceiverProcess(STORAGE_DIR=str(tmp_path), SCP_WORKERS="2") as first,
        Peer(first.port, CT) as peer,
    ):
        begin(peer, first)
        with ReceiverProcess(STORAGE_DIR=str(tmp_path)) as second:
            until(lambda: second.states() == ["ready"], "the second is not ready")
            second.workers()[0].kill()
            until(lambda: second.metrics()["worker_restarts_total{worker=0}"], "no successor")
            store_well(second)
        assert peer.finish_store(OTHER[HALF:]).status == 0x0000
    assert (tmp_path / "1.2.3" / "1.2.3.3" / "1.2.3.77.dcm").read_bytes().endswith(OTHER)


@pytest.mark.fault("sink-refuses")
def test_a_folder_of_partial_files_that_vanishes_is_made_again(tmp_path: Path) -> None:
    with ReceiverProcess(STORAGE_DIR=str(tmp_path), SCP_WORKERS="2") as process:
        until(lambda: process.states() == ["ready", "ready"], "not ready")
        shutil.rmtree(tmp_path / ".incoming")
        for number in range(4):
            with Peer(process.port, CT) as peer:
                answer = peer.store(GOOD, CT_IMAGE, GOOD_INSTANCE)
                assert answer.status == 0x0000, number
        # Each worker has its claim again, by which the files of this receiver are known as alive.
        claims = tmp_path / ".incoming"
        until(lambda: len(list(claims.glob("*.lock"))) == 2, "a worker has no claim")


@pytest.mark.fault("sink-refuses")
def test_while_the_directory_is_gone_nothing_is_ready_and_it_comes_back_by_itself(
    tmp_path: Path,
) -> None:
    storage, away = tmp_path / "storage", tmp_path / "away"
    with ReceiverProcess(STORAGE_DIR=str(storage)) as process, Peer(process.port, CT) as peer:
        assert peer.store(GOOD, CT_IMAGE, GOOD_INSTANCE).status == 0x0000
        storage.rename(away)
        assert peer.store(GOOD, CT_IMAGE, GOOD_INSTANCE).status == 0xA700
        line = process.wait_for("storage_unavailable", why="ENOENT")
        assert line["system_says"] == "No such file or directory"
        until(lambda: process.states() == ["storage_unavailable"], "still ready")
        told = json.loads(process.answer("/health/ready"))
        assert (told["status"], told["detail"].split(":")[0]) == (503, "STORAGE_DIR takes no files")
        assert not storage.exists()  # it may be where a disk is to be mounted
        away.rename(storage)
        process.wait_for("storage_available")
        until(lambda: process.states() == ["ready"], "not ready again")
        assert peer.store(GOOD, CT_IMAGE, GOOD_INSTANCE).status == 0x0000
