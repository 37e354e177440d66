"""S3 refuses, falters or is gone: never 0000, and the next C-STORE works (faults.md row 21)."""

from tests.protocol.conftest import TEST_CREDENTIALS
from tests.protocol.fake_s3 import FakeS3, fake_s3
from tests.protocol.peer import Peer
from tests.protocol.receiver import ReceiverProcess
from tests.unit.store_scp.builders import CT_IMAGE, EXPLICIT_LE, data_set

GOOD = data_set()
CT = [(CT_IMAGE, [EXPLICIT_LE])]


def receiver(s3: FakeS3, **settings: str) -> ReceiverProcess:
    quick = {"DIMSE_TIMEOUT": "10", "BATCH_QUIET_SECONDS": "0.2"}
    return ReceiverProcess(**TEST_CREDENTIALS, **s3.environment, **quick, **settings)


def test_each_refusal_has_its_status_and_nothing_is_lost() -> None:
    cases: list[tuple[tuple[int, str] | str, int]] = [
        ((403, "AccessDenied"), 0x0110),
        ((404, "NoSuchBucket"), 0x0110),
        ((400, "KMS.DisabledException"), 0x0110),
        ((503, "SlowDown"), 0xA700),
        ((500, "InternalError"), 0xA700),
        ("reset", 0xA700),
    ]
    with fake_s3() as s3, receiver(s3) as process:
        with Peer(process.port, CT) as peer:
            for fault, status in cases:
                s3.fault = fault
                assert peer.store(GOOD, CT_IMAGE, "1.2.3.4").status == status, fault
                assert s3.objects == {}
            s3.fault = None
            assert peer.store(GOOD, CT_IMAGE, "1.2.3.4").status == 0x0000
        process.wait_for("store_refused", status="0110H", why="AccessDenied")
        process.wait_for("store_refused", status="A700H", why="SlowDown")
        process.wait_for("batch_closed", instances=1)
        assert len(s3.objects) == 2


def test_s3_that_is_not_there_is_out_of_resources() -> None:
    with fake_s3() as s3:
        gone = s3.environment
    credentials = {**TEST_CREDENTIALS, **gone}
    with ReceiverProcess(**credentials, DIMSE_TIMEOUT="10") as process:
        with Peer(process.port, CT) as peer:
            response = peer.store(GOOD, CT_IMAGE, "1.2.3.4")
            assert response.status == 0xA700
            assert response.comment
        process.wait_for("association", stored=0, refused=1)


def test_without_credentials_nothing_is_acknowledged() -> None:
    none = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_DEFAULT_REGION": "us-east-1", "HOME": "/"}
    with (
        fake_s3() as s3,
        ReceiverProcess(**s3.environment, **none) as process,
        Peer(process.port, CT) as peer,
    ):
        assert peer.store(GOOD, CT_IMAGE, "1.2.3.4").status == 0x0110
        assert s3.objects == {}


def test_a_manifest_is_tried_until_it_is_written() -> None:
    with fake_s3() as s3, receiver(s3) as process:
        s3.manifest_faults = [(403, "AccessDenied"), (403, "AccessDenied")]
        with Peer(process.port, CT) as peer:
            assert peer.store(GOOD, CT_IMAGE, "1.2.3.4").status == 0x0000
        process.wait_for("manifest_postponed", seconds=1.0, why="AccessDenied")
        process.wait_for("manifest_postponed", seconds=2.0)
        s3.wait_for_manifest()
        process.wait_for("batch_closed", instances=1)


def test_a_manifest_that_was_written_before_is_written() -> None:
    with fake_s3() as s3, receiver(s3) as process:
        s3.manifest_faults = [(412, "PreconditionFailed")]
        with Peer(process.port, CT) as peer:
            assert peer.store(GOOD, CT_IMAGE, "1.2.3.4").status == 0x0000
        process.wait_for("batch_closed", instances=1)


def test_a_manifest_is_still_tried_while_shutting_down() -> None:
    with (
        fake_s3() as s3,
        receiver(s3, DRAIN_SECONDS="0") as process,
        Peer(process.port, CT) as peer,
    ):
        assert peer.store(GOOD, CT_IMAGE, "1.2.3.4").status == 0x0000
        s3.manifest_faults = [(403, "AccessDenied")]
        process.terminate()
        peer.closed_with()
        process.wait_for("batch_closed", reason="shutdown")
        process.wait_for("stopped")
