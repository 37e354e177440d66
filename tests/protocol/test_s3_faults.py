"""S3 refuses, falters or is gone: never 0000, and the next C-STORE works (docs/faults.md)."""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from contract.uids import uid_digest
from tests.protocol.fake_s3 import RESET, FakeS3, Fault
from tests.protocol.peer import Peer
from tests.protocol.receiver import ReceiverProcess
from tests.protocol.vitals import CT, GOOD, assert_unharmed, baseline, files
from tests.unit.store_scp.builders import CT_IMAGE, SOP_INSTANCE, data_set

MIB = 1024**2
OTHER = data_set(replaced={SOP_INSTANCE: b"1.2.3.5"})
LARGE = data_set(replaced={SOP_INSTANCE: b"1.2.3.6"}, pixels=bytes(range(256)) * (20 * 4096))


@dataclass(frozen=True)
class Refusal:
    """What S3 does, and what the peer and the log are told."""

    fault: Fault | None
    status: int
    why: str
    size: int = 0

    def provoked(self, process: ReceiverProcess, uid: str) -> int:
        """The status that a C-STORE of its own association gets."""
        data = data_set(replaced={SOP_INSTANCE: uid.encode()}, pixels=bytes(self.size))
        with Peer(process.port, CT) as peer:
            return peer.store(data, CT_IMAGE, uid).status


# Nobody listens on port 1, and the system asks for privileges to.
NOWHERE = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
NOBODY = {
    "AWS_ACCESS_KEY_ID": "",
    "AWS_SECRET_ACCESS_KEY": "",
    "AWS_EC2_METADATA_DISABLED": "true",
    "HOME": "/",
}
STALLED = "1.2.3.30"
# These are tried until DIMSE_TIMEOUT, which may come in the middle of the last attempt.
CUT_SHORT = dict.fromkeys(("ConnectionLost", "ConnectionRefused", "NoCredentials"), ("Timeout",))
REFUSALS = {
    STALLED: Refusal(None, 0xA700, "Timeout"),
    "1.2.3.31": Refusal((403, "AccessDenied"), 0x0110, "AccessDenied"),
    "1.2.3.32": Refusal((404, "NoSuchBucket"), 0x0110, "NoSuchBucket"),
    "1.2.3.33": Refusal((400, "KMS.DisabledException"), 0x0110, "KMS.DisabledException"),
    "1.2.3.34": Refusal((503, "SlowDown"), 0xA700, "SlowDown"),
    "1.2.3.35": Refusal((500, "InternalError"), 0xA700, "InternalError"),
    "1.2.3.36": Refusal(RESET, 0xA700, "ConnectionLost"),
    "1.2.3.37": Refusal((403, "AccessDenied"), 0x0110, "AccessDenied", 20 * MIB),
    "1.2.3.38": Refusal((503, "ServiceUnavailable"), 0xA700, "ServiceUnavailable", 20 * MIB),
}


@pytest.mark.fault("sink-refuses")
def test_each_refusal_of_s3_has_its_status_and_stores_nothing(
    s3_receiver: ReceiverProcess, shared_s3: FakeS3
) -> None:
    shared_s3.faults = {uid: each.fault for uid, each in REFUSALS.items() if each.fault}
    with (
        ReceiverProcess(**shared_s3.environment | NOWHERE) as without_s3,
        ReceiverProcess(**shared_s3.environment | NOBODY) as without_credentials,
    ):
        cases = [(s3_receiver, uid, each) for uid, each in REFUSALS.items()]
        cases.append((without_s3, "1.2.3.40", Refusal(None, 0xA700, "ConnectionRefused")))
        cases.append((without_credentials, "1.2.3.41", Refusal(None, 0xA700, "NoCredentials")))
        # All at once, since some are tried until DIMSE_TIMEOUT.
        with shared_s3.hold(STALLED), ThreadPoolExecutor(len(cases)) as pool:
            statuses = list(pool.map(lambda case: case[2].provoked(*case[:2]), cases))
            # What S3 did not answer in time it may still store, once it is let.
            stored = [key for _, uid, _ in cases for key in shared_s3.keys(uid)]
        assert not stored
        for status, (asked, uid, each) in zip(statuses, cases, strict=True):
            assert status == each.status, uid
            refused = {"status": f"{each.status:04X}H", "sop_instance": uid_digest(uid)}
            line = asked.wait_for("store_refused", **refused)
            assert line["why"] in (each.why, *CUT_SHORT.get(each.why, ()))
        assert not shared_s3.uploads
        shared_s3.faults = {}


@pytest.mark.fault("sink-refuses")
def test_an_upload_that_is_refused_midway_is_aborted(
    s3_receiver: ReceiverProcess, shared_s3: FakeS3
) -> None:
    with Peer(s3_receiver.port, CT) as peer:
        peer.start_store(CT_IMAGE, "1.2.3.6", LARGE[: 12 * MIB])
        shared_s3.wait_for_part()
        shared_s3.faults = {".dcm": (403, "AccessDenied")}
        assert peer.finish_store(LARGE[12 * MIB :]).status == 0x0110
        shared_s3.faults = {}
    shared_s3.wait_for_no_uploads()
    assert not shared_s3.keys("1.2.3.6.dcm")


@pytest.mark.fault("sink-refuses")
def test_s3_that_is_slow_is_waited_for(s3_receiver: ReceiverProcess, shared_s3: FakeS3) -> None:
    with Peer(s3_receiver.port, CT) as peer:
        with shared_s3.hold("1.2.3.5.dcm") as held:
            peer.send_store(OTHER, CT_IMAGE, "1.2.3.5")
            shared_s3.wait_for_held(held, 1)
            assert s3_receiver.metrics()["waiting_operations"] == 1
        assert peer.response().status == 0x0000


@pytest.mark.fault("sink-refuses")
def test_a_full_disk_is_out_of_resources_and_leaves_nothing(tmp_path: Path) -> None:
    mounted = f'mount -t tmpfs -o size=4m tmpfs "{tmp_path}" && exec "$@"'
    namespace = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mounted, "sh")
    if subprocess.run([*namespace, "true"], check=False).returncode:
        pytest.skip(
            "mounting a small disk needs a user namespace, which this system refuses: run the tests"
            " as root, or allow them (on Ubuntu: kernel.apparmor_restrict_unprivileged_userns=0)"
        )
    with ReceiverProcess(*namespace, STORAGE_DIR=str(tmp_path)) as process:
        process.storage = Path(f"/proc/{process.pid}/root{tmp_path}")
        base = baseline(process)
        with Peer(process.port, CT) as peer:
            for pixels in (5 * MIB, 20 * MIB):
                large = data_set(replaced={SOP_INSTANCE: b"1.2.3.6"}, pixels=bytes(pixels))
                assert peer.store(large, CT_IMAGE, "1.2.3.6").status == 0xA700
        process.wait_for("store_refused", status="A700H", why="ENOSPC")
        assert_unharmed(process, base)
        assert files(process) == base.files


def test_a_manifest_is_tried_until_it_is_written(
    s3_receiver: ReceiverProcess, shared_s3: FakeS3
) -> None:
    shared_s3.manifest_faults = [(403, "AccessDenied"), (403, "AccessDenied")]
    before = s3_receiver.metrics()
    with Peer(s3_receiver.port, CT) as peer:
        assert peer.store(GOOD, CT_IMAGE, "1.2.3.4").status == 0x0000
    s3_receiver.wait_for("manifest_postponed", seconds=1.0, why="AccessDenied")
    s3_receiver.wait_for("manifest_postponed", seconds=2.0)
    assert not shared_s3.keys("/batches/")
    # Closed once, and not written: an operator sees the difference.
    assert grown(s3_receiver, before, "batches_closed_total", "manifests_written_total") == [1, 0]
    shared_s3.wait_for_manifest()
    s3_receiver.wait_for("batch_closed", instances=1)
    assert grown(s3_receiver, before, "batches_closed_total", "manifests_written_total") == [1, 1]


def test_each_attempt_that_repeats_one_is_counted(
    s3_receiver: ReceiverProcess, shared_s3: FakeS3
) -> None:
    shared_s3.manifest_faults = [(503, "SlowDown"), (500, "InternalError")]
    before = s3_receiver.metrics()
    with Peer(s3_receiver.port, CT) as peer:
        assert peer.store(GOOD, CT_IMAGE, "1.2.3.4").status == 0x0000
    s3_receiver.wait_for("batch_closed", instances=1)
    names = [f"uploads_total{{result={each}}}" for each in ("ok", "retried", "failed")]
    assert grown(s3_receiver, before, *names) == [2, 2, 2]  # the object and its manifest


def grown(process: ReceiverProcess, before: dict[str, float], *names: str) -> list[float]:
    after = process.metrics()
    return [after[name] - before[name] for name in names]


def test_a_manifest_that_was_written_before_is_written(
    s3_receiver: ReceiverProcess, shared_s3: FakeS3
) -> None:
    shared_s3.manifest_faults = [(412, "PreconditionFailed")]
    with Peer(s3_receiver.port, CT) as peer:
        assert peer.store(GOOD, CT_IMAGE, "1.2.3.4").status == 0x0000
    s3_receiver.wait_for("batch_closed", instances=1)
    assert not shared_s3.keys("/batches/")


def test_a_manifest_is_still_tried_while_shutting_down(s3: FakeS3) -> None:
    settings = {"DRAIN_SECONDS": "0", "BATCH_QUIET_SECONDS": "30"}
    with (
        ReceiverProcess(**s3.environment | settings) as process,
        Peer(process.port, CT) as peer,
    ):
        assert peer.store(GOOD, CT_IMAGE, "1.2.3.4").status == 0x0000
        s3.manifest_faults = [(403, "AccessDenied")]
        process.terminate()
        peer.aborted_by()
        process.wait_for("batch_closed", reason="shutdown")
        process.wait_for("stopped")


def test_a_large_instance_is_uploaded_in_parts_of_8_mib(
    s3_receiver: ReceiverProcess, shared_s3: FakeS3
) -> None:
    with Peer(s3_receiver.port, CT) as peer:
        assert peer.store(LARGE, CT_IMAGE, "1.2.3.6").status == 0x0000
    (key,) = shared_s3.keys("1.2.3.6.dcm")
    assert shared_s3.objects[key].endswith(LARGE)
    whole = len(shared_s3.objects[key])
    assert shared_s3.part_sizes == [8 * MIB, 8 * MIB, whole - 16 * MIB]
