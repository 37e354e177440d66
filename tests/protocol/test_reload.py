"""Access that is reloaded: what was usable last holds in every worker, however it was started."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from tests.protocol.certificates import Authority, Identity
from tests.protocol.peer import Peer
from tests.protocol.receiver import ReceiverProcess
from tests.protocol.test_tls import has_no_association, tls_settings
from tests.protocol.vitals import CT, GOOD, GOOD_INSTANCE, until
from tests.unit.store_scp.builders import CT_IMAGE

EVERYBODY = '[[ae]]\nname = "everybody"\n'
ONLY_MR1 = '[[ae]]\nname = "one"\ncalling = "MR1"\n'


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    file = tmp_path / "policy.toml"
    file.write_text(EVERYBODY)
    return file


@contextmanager
def receiver(policy: Path, **settings: str) -> Iterator[ReceiverProcess]:
    storage = str(policy.with_name("storage"))
    with ReceiverProcess(STORAGE_DIR=storage, SCP_POLICY=str(policy), **settings) as process:
        until(lambda: set(process.states()) == {"ready"}, "no worker")
        yield process


def reload(process: ReceiverProcess, event: str, number: int = 1) -> None:
    process.forget()
    process.reload()
    until(lambda: len(process.events(event)) == number, f"no line {event}")


def replace_workers(process: ReceiverProcess) -> None:
    """Kill every worker, and wait for its successor."""
    dead = list(process.workers())
    for each in dead:
        each.kill()
    psutil.wait_procs(dead)
    until(lambda: len(process.workers()) == len(dead), "nobody replaces it")


def admitted(process: ReceiverProcess, title: str) -> bool:
    try:
        with Peer(process.port, CT, title) as peer:
            return peer.store(GOOD, CT_IMAGE, GOOD_INSTANCE).status == 0x0000
    except AssertionError:
        assert Peer(process.port, CT, title).rejected() == (1, 1, 3)
        return False


@pytest.mark.parametrize("signalled", [True, False])
@pytest.mark.parametrize("later", ["no policy", EVERYBODY])
def test_a_revoked_title_stays_revoked_when_a_worker_is_replaced(
    policy: Path, signalled: bool, later: str
) -> None:
    with receiver(policy) as process:
        assert admitted(process, "CT1")
        policy.write_text(ONLY_MR1)
        reload(process, "reloaded")
        assert not admitted(process, "CT1")
        policy.write_text("no policy" if signalled else later)
        if signalled:
            reload(process, "reload_failed")
            policy.write_text(later)
        replace_workers(process)
        assert not admitted(process, "CT1")
        assert admitted(process, "MR1")


def test_a_revoked_client_ca_stays_revoked_when_a_worker_is_replaced(
    policy: Path, tmp_path: Path
) -> None:
    old, new = Authority.made(tmp_path / "old"), Authority.made(tmp_path / "new")
    own, ct1, ct2 = old.issue("receiver"), old.issue("ct1"), new.issue("ct2")
    bundle = tmp_path / "bundle.pem"
    shutil.copy(old.bundle, bundle)
    settings = tls_settings(old, own, SCP_TLS_CLIENT_CA=str(bundle))
    with receiver(policy, **settings) as process:
        with Peer(process.tls_port, CT, tls=old.client(ct1)):
            pass
        shutil.copy(new.bundle, bundle)
        reload(process, "reloaded")
        bundle.write_text("no certificate")
        reload(process, "reload_failed")
        shutil.copy(old.bundle, bundle)
        replace_workers(process)
        assert has_no_association(process, old.client(ct1))
        with Peer(process.tls_port, CT, tls=old.client(ct2)) as peer:
            assert peer.store(GOOD, CT_IMAGE, GOOD_INSTANCE).status == 0x0000


def test_what_cannot_be_used_is_told_once_and_a_good_reload_by_each_worker(policy: Path) -> None:
    with receiver(policy, SCP_WORKERS="2") as process:
        policy.write_text(ONLY_MR1)
        reload(process, "reloaded", 2)
        policy.write_text("no policy")
        process.reload()
        process.wait_for("reload_failed")
        policy.write_text(EVERYBODY)
        reload(process, "reloaded", 2)
        assert len([each for each in process.lines if each["event"] == "reload_failed"]) == 1


def test_one_bad_file_leaves_the_others_as_they_were(policy: Path, tmp_path: Path) -> None:
    ca = Authority.made(tmp_path / "ca")
    own = ca.issue("receiver")
    files = Identity(tmp_path / "own.pem", tmp_path / "own.key")
    shutil.copy(own.certificate, files.certificate)
    shutil.copy(own.key, files.key)
    with receiver(policy, **tls_settings(ca, files)) as process:
        policy.write_text(ONLY_MR1)
        files.key.unlink()
        reload(process, "reload_failed")
        assert admitted(process, "CT1")
        replace_workers(process)
        assert admitted(process, "CT1")


def test_a_worker_that_cannot_take_over_what_holds_makes_room_for_one_that_can(
    policy: Path, tmp_path: Path
) -> None:
    ca = Authority.made(tmp_path / "ca")
    with receiver(policy, **tls_settings(ca, ca.issue("receiver"))) as process:
        (worker,) = process.workers()
        worker.rlimit(psutil.RLIMIT_NOFILE, (3, 3))  # it keeps what it has, and gets no more
        policy.write_text(ONLY_MR1)
        process.reload()
        process.wait_for("reload_failed")
        process.wait_for("worker_died", exit_code=1)
        until(lambda: process.states() == ["ready"], "no successor")
        assert not admitted(process, "CT1")
        assert admitted(process, "MR1")
