"""A receiver whose machine's clock is off: its leases, its batch's rows, its signatures, its word.

The receiver is the real one; what is wrong is the clock that it is given (``wrong_clock.py``).
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pytest
from chalicelib import wiring
from chalicelib.intake.recovery import recover_batches
from chalicelib.intake.trigger import close_batch
from chalicelib.stores.schema import table_definitions

from contract.keys import manifest_key
from contract.records import BatchRecord, BatchState, InstanceState
from tests.protocol.fake_s3 import FakeS3, fake_s3
from tests.protocol.peer import Peer
from tests.protocol.receiver import ReceiverProcess
from tests.protocol.vitals import until
from tests.unit.store_scp.builders import CT_IMAGE, EXPLICIT_LE, SOP_INSTANCE, data_set

CT = [(CT_IMAGE, [EXPLICIT_LE])]
GOOD = data_set()
NEXT = data_set(replaced={SOP_INSTANCE: b"1.2.3.5\x00"})
BUCKET = "clock"
LEASE = timedelta(seconds=60)
# A round trip on a busy machine, and what a Date leaves open.
SLACK = timedelta(seconds=10)
HOUR = 3_600


class Shifted(ReceiverProcess):
    """A receiver whose clock is ``ahead`` seconds before the true time."""

    module = "tests.protocol.wrong_clock"

    def __init__(self, directory: Path, ahead: float, **environment: str) -> None:
        self._file = directory / "ahead"
        self.set_clock(ahead)
        super().__init__(CLOCK_AHEAD=str(self._file), **environment)

    def set_clock(self, ahead: float) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(str(ahead))
        new.rename(self._file)

    def readiness(self) -> str | None:
        """Why it is not ready."""
        answer = json.loads(self.answer("/health/ready"))
        return None if answer["status"] == "ready" else str(answer["detail"])

    def offset(self) -> float | None:
        return self.metrics().get("clock_offset_seconds{worker=0}")


@pytest.fixture
def cloud(aws: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Bucket and tables, and what the receiver and the Lambdas are told of them."""
    told = {**aws, "DICOM_BUCKET": BUCKET, "DATASTORE_ID": "0" * 32}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    wiring.forget()
    s3, dynamodb = boto3.client("s3"), boto3.client("dynamodb")
    s3.create_bucket(Bucket=BUCKET)
    tables = [
        dynamodb.create_table(**each)["TableDescription"]["TableName"]
        for each in table_definitions()
    ]
    yield {**aws, "DICOM_BUCKET": BUCKET, "BATCH_TABLE": tables[1]}
    for name in tables:
        dynamodb.delete_table(TableName=name)
    for each in s3.list_objects_v2(Bucket=BUCKET).get("Contents", ()):
        s3.delete_object(Bucket=BUCKET, Key=each["Key"])
    s3.delete_bucket(Bucket=BUCKET)
    s3.close()
    dynamodb.close()
    wiring.forget()


def only_open_batch() -> BatchRecord:
    batches = wiring.stores().batches
    (line,) = batches.lines(BatchState.OPEN)
    found = batches.get(line.batch_id)
    assert found is not None
    return found


def opened(batch_id: str) -> datetime:
    return datetime.strptime(batch_id[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


# Minutes, as far as S3 lets pass what is signed so; and, for moto verifies no time, hours.
@pytest.mark.fault("wrong-clock")
@pytest.mark.parametrize("ahead", [-10 * 60, 10 * 60, -5 * HOUR, 5 * HOUR])
def test_a_batch_is_its_receivers_and_gets_its_rows(
    cloud: dict[str, str], tmp_path: Path, ahead: float
) -> None:
    began = datetime.now(UTC)
    settings = {"LEASE_SECONDS": str(LEASE.total_seconds()), "BATCH_QUIET_SECONDS": "0.2"}
    with Shifted(tmp_path, ahead, **cloud, **settings) as process:
        with Peer(process.port, CT) as peer:
            assert peer.store(GOOD, CT_IMAGE, "1.2.3.4").status == 0x0000
            batch, now = only_open_batch(), datetime.now(UTC)
            assert batch.lease_expires_at is not None
            # Not before it is over for its owner; not much later, or a dead owner's batch waits.
            assert began + LEASE <= batch.lease_expires_at <= now + LEASE + SLACK
            assert began - SLACK <= batch.opened_at <= now + SLACK
            assert began - SLACK <= opened(batch.batch_id) <= now + SLACK
            # The function as it runs each minute, at the true time.
            assert recover_batches(wiring.recovery()) == 0
            assert peer.store(NEXT, CT_IMAGE, "1.2.3.5").status == 0x0000
        process.wait_for("batch_closed", batch_id=batch.batch_id, instances=2)
        assert process.events("batch_lost") == []
    stores, now = wiring.stores(), datetime.now(UTC)
    closed = close_batch(BUCKET, manifest_key(batch.batch_id), stores, "0" * 32, now)
    assert closed is not None
    assert closed.closed_at is not None
    assert began - SLACK <= closed.closed_at <= now + SLACK
    rows = list(stores.instances.by_study("1.2.3"))
    assert sorted(each.sop_instance_uid for each in rows) == ["1.2.3.4", "1.2.3.5"]
    assert {each.state for each in rows} == {InstanceState.RECEIVED}


@pytest.mark.fault("wrong-clock")
@pytest.mark.parametrize("ahead", [-HOUR, HOUR])
def test_an_hour_off_it_still_puts_and_says_so(
    cloud: dict[str, str], tmp_path: Path, ahead: float
) -> None:
    with fake_s3() as s3:
        s3.checks_time = True
        settings = {**s3.environment, "AWS_ENDPOINT_URL_DYNAMODB": cloud["AWS_ENDPOINT_URL"]}
        with (
            Shifted(tmp_path, ahead, BATCH_TABLE=cloud["BATCH_TABLE"], **settings) as process,
            Peer(process.port, CT) as peer,
        ):
            assert peer.store(GOOD, CT_IMAGE, "1.2.3.4").status == 0x0000
            line = process.wait_for("clock_wrong")
            assert float(line["offset_seconds"]) == pytest.approx(ahead, abs=10)
            assert process.offset() == pytest.approx(ahead, abs=10)
            assert process.readiness() is None
            assert len(s3.keys()) == 1


@pytest.mark.fault("wrong-clock")
def test_what_recovery_sees_right_after_a_take_is_no_lease_that_is_over(
    cloud: dict[str, str], tmp_path: Path
) -> None:
    """S3's first answers are an hour slow; DynamoDB's are right."""
    began = datetime.now(UTC)
    with fake_s3() as s3:
        s3.ahead = -timedelta(seconds=HOUR)
        settings = {**s3.environment, "AWS_ENDPOINT_URL_DYNAMODB": cloud["AWS_ENDPOINT_URL"]}
        leases = {"BATCH_TABLE": cloud["BATCH_TABLE"], "LEASE_SECONDS": "60"}
        held = {"BATCH_HELD_QUIET_SECONDS": "600"}
        with (
            Shifted(tmp_path, 0, **settings, **leases, **held) as process,
            Peer(process.port, CT) as peer,
        ):
            until(lambda: process.readiness() is None, "it is not ready")
            s3.ahead = timedelta()
            assert peer.store(GOOD, CT_IMAGE, "1.2.3.4").status == 0x0000
            assert recover_batches(wiring.recovery()) == 0
            batch = only_open_batch()
            assert batch.lease_expires_at is not None
            assert began + LEASE - SLACK <= batch.lease_expires_at
            assert process.events("batch_lost") == []


@pytest.mark.fault("wrong-clock")
def test_an_idle_receiver_does_not_call_a_clock_wrong_that_went_on_while_its_machine_stopped(
    s3: FakeS3, tmp_path: Path
) -> None:
    with Shifted(tmp_path, 0, **s3.environment) as process:
        until(lambda: process.offset() is not None, "it has not compared the clocks")
        before = s3.answers
        # As if the steady clock had missed so much: both others have gone on.
        s3.ahead = timedelta(seconds=8 * HOUR)
        process.set_clock(8 * HOUR)
        # One answer is not believed alone; and it does not ask for ever.
        until(lambda: s3.answers >= before + 2, "it does not ask S3")
        assert process.offset() == pytest.approx(0, abs=10)
        # It has compared the clocks again, since this is news to it.
        process.set_clock(9 * HOUR)
        line = process.wait_for("clock_wrong")
        assert float(line["offset_seconds"]) == pytest.approx(HOUR, abs=10)
        assert len(process.events("clock_wrong")) == 1


@pytest.mark.fault("wrong-clock")
def test_a_clock_that_is_set_while_it_runs_changes_nothing_but_the_offset(
    s3: FakeS3, tmp_path: Path
) -> None:
    s3.checks_time = True
    with Shifted(tmp_path, 0, **s3.environment) as process, Peer(process.port, CT) as peer:
        assert peer.store(GOOD, CT_IMAGE, "1.2.3.4").status == 0x0000
        until(lambda: process.readiness() is None, "it is not ready")
        assert process.offset() == pytest.approx(0, abs=10)
        process.set_clock(-2 * HOUR)
        process.wait_for("clock_wrong")
        assert process.offset() == pytest.approx(-2 * HOUR, abs=10)
        assert peer.store(NEXT, CT_IMAGE, "1.2.3.5").status == 0x0000
        process.set_clock(0)
        process.wait_for("clock_right")
        assert len(process.events("clock_wrong")) == 1
    (batch_id,) = {key.split("/")[3] for key in s3.keys(".dcm")}
    assert abs(opened(batch_id) - datetime.now(UTC)) < timedelta(minutes=5)


def test_it_is_ready_once_s3_has_told_the_time_and_needs_no_sender_for_that(
    s3: FakeS3, tmp_path: Path
) -> None:
    with s3.hold("instances/clock") as hold, Shifted(tmp_path, 0, **s3.environment) as process:
        s3.wait_for_held(hold, 1)
        until(lambda: process.states() == ["clock_unknown"], "it does not say so")
        assert process.readiness() == "neither S3 nor DynamoDB has told the time yet"
        assert process.offset() is None
        hold.lifted.set()
        until(lambda: process.readiness() is None, "it is not ready")
        assert process.states() == ["ready"]
        assert process.offset() == pytest.approx(0, abs=10)
    assert s3.objects == {}


def test_an_s3_that_is_away_is_asked_again_and_named(s3: FakeS3, tmp_path: Path) -> None:
    nowhere = {**s3.environment, "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    with Shifted(tmp_path, 0, **nowhere) as process:
        line = process.wait_for("clock_unknown")
        assert line["why"] == "ConnectionRefused"
        assert process.readiness() == "neither S3 nor DynamoDB has told the time yet"


def test_a_directory_needs_no_time_of_anybody(tmp_path: Path) -> None:
    storage = tmp_path / "storage"
    with Shifted(tmp_path, HOUR, STORAGE_DIR=str(storage)) as process:
        until(lambda: process.readiness() is None, "it is not ready")
        assert process.offset() is None
        with Peer(process.port, CT) as peer:
            assert peer.store(GOOD, CT_IMAGE, "1.2.3.4").status == 0x0000
        assert process.events("clock_wrong") == []
