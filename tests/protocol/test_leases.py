"""Batch leases end to end: a real receiver, a real batch table, and a worker that is stopped."""

import itertools
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import boto3
import pytest
from chalicelib.stores.dynamodb import DynamoBatches
from chalicelib.stores.schema import table_definitions

from contract.checksums import Checksum
from contract.keys import InstanceKey
from contract.metadata import Target, from_metadata
from contract.records import BatchRecord, BatchState
from contract.times import to_iso
from tests.protocol.fake_s3 import FakeS3, fake_s3
from tests.protocol.peer import Peer
from tests.protocol.receiver import ReceiverProcess
from tests.protocol.vitals import until
from tests.unit.store_scp.builders import CT_IMAGE, EXPLICIT_LE, SOP_INSTANCE, data_set

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

CT = [(CT_IMAGE, [EXPLICIT_LE])]
GOOD = data_set()
NEXT = data_set(replaced={SOP_INSTANCE: b"1.2.3.5\x00"})
LEASE = timedelta(seconds=2)
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Table:
    """The batch table, as the pipeline sees it and as recovery writes it."""

    client: "DynamoDBClient"
    name: str

    def rows(self) -> list[BatchRecord]:
        batches = DynamoBatches(self.client, self.name)
        return list(batches.get_many([*batches.ids(BatchState.OPEN)]).values())

    def take_for_recovery(self, batch: BatchRecord) -> None:
        """Fence the batch, once its lease has run out."""
        until(lambda: _expired(self._now(batch)), "the lease goes on")
        self.client.update_item(
            TableName=self.name,
            Key={"batchId": {"S": batch.batch_id}},
            UpdateExpression="SET #owner = :recovery, leaseExpiresAt = :now",
            ConditionExpression="#owner = :owner",
            ExpressionAttributeNames={"#owner": "owner"},
            ExpressionAttributeValues={
                ":recovery": {"S": "recovery"},
                ":owner": {"S": batch.owner or ""},
                ":now": {"S": to_iso(datetime.now(UTC))},
            },
        )

    def _now(self, batch: BatchRecord) -> BatchRecord:
        row = DynamoBatches(self.client, self.name).get(batch.batch_id)
        assert row is not None
        return row


def _expired(batch: BatchRecord) -> bool:
    assert batch.lease_expires_at is not None
    return batch.lease_expires_at <= datetime.now(UTC)


@pytest.fixture
def table(aws: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Table]:
    for name, value in aws.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("dynamodb")
    name = f"batches-{next(_numbers)}"
    definition = table_definitions()[1]
    definition["TableName"] = name
    client.create_table(**definition)
    yield Table(client, name)
    client.close()


@contextmanager
def leased(s3: FakeS3, table: Table, **settings: str) -> Iterator[ReceiverProcess]:
    """A receiver whose bucket and whose batch table are different services."""
    with ReceiverProcess(
        **{
            **s3.environment,
            "AWS_ENDPOINT_URL_DYNAMODB": table.client.meta.endpoint_url,
            "BATCH_TABLE": table.name,
            "BATCH_HELD_QUIET_SECONDS": "600",
            "LEASE_SECONDS": str(LEASE.total_seconds()),
            **settings,
        }
    ) as process:
        yield process


def batch_of(key: str) -> str:
    """Of an object in the fake bucket, whose name comes first."""
    return InstanceKey.parse(key.removeprefix("/bucket/")).batch_id


def test_a_batch_that_is_open_has_a_record_with_owner_and_lease(table: Table) -> None:
    with fake_s3() as s3, leased(s3, table) as process, Peer(process.port, CT) as peer:
        assert peer.store(GOOD, CT_IMAGE, "1.2.3.4").status == 0x0000
        (batch,) = table.rows()
        assert [batch_of(key) for key in s3.keys(".dcm")] == [batch.batch_id]
        assert (batch.calling_ae_title, batch.called_ae_title) == ("TESTER", "STORESCP")
        assert batch.owner
        assert batch.lease_expires_at is not None

        def renewed() -> bool:
            (now,) = table.rows()
            assert now.owner == batch.owner
            return now.lease_expires_at != batch.lease_expires_at

        until(renewed, "the lease is not renewed")


def test_what_lands_after_recovery_came_is_put_again_before_it_is_acknowledged(
    table: Table,
) -> None:
    with fake_s3() as s3, leased(s3, table) as process, Peer(process.port, CT) as peer:
        worker = process.worker_of(peer.wire.connection.getsockname()[1])
        with s3.hold(once_stored=True) as hold:
            peer.send_store(GOOD, CT_IMAGE, "1.2.3.4")
            s3.wait_for_held(hold, 1)
            (batch,) = table.rows()
            worker.suspend()
            table.take_for_recovery(batch)
        worker.resume()
        assert peer.response().status == 0x0000
        process.wait_for("batch_lost", batch_id=batch.batch_id)
        batches = {batch_of(key) for key in s3.keys(".dcm")}
        # The first object stays: recovery may have listed it, and the import sweeps what is not.
        assert batch.batch_id in batches
        (new,) = batches - {batch.batch_id}
        assert new in {row.batch_id for row in table.rows()}
        peer.release()
        peer.vanish()
        closed = process.wait_for("batch_closed")
        assert closed["batch_id"] == new
        assert s3.keys("/batches/") == [f"/bucket/batches/{new}.json"]


def test_nothing_more_goes_into_a_batch_that_recovery_has(table: Table) -> None:
    with fake_s3() as s3, leased(s3, table) as process, Peer(process.port, CT) as peer:
        worker = process.worker_of(peer.wire.connection.getsockname()[1])
        assert peer.store(GOOD, CT_IMAGE, "1.2.3.4").status == 0x0000
        (batch,) = table.rows()
        worker.suspend()
        peer.send_store(NEXT, CT_IMAGE, "1.2.3.5")
        table.take_for_recovery(batch)
        worker.resume()
        assert peer.response().status == 0x0000
        (other,) = (key for key in s3.keys(".dcm") if key.endswith("/1.2.3.5.dcm"))
        assert batch_of(other) != batch.batch_id


def test_a_worker_that_was_only_slow_keeps_its_batch(table: Table) -> None:
    with fake_s3() as s3, leased(s3, table) as process, Peer(process.port, CT) as peer:
        worker = process.worker_of(peer.wire.connection.getsockname()[1])
        with s3.hold(once_stored=True) as hold:
            peer.send_store(GOOD, CT_IMAGE, "1.2.3.4")
            s3.wait_for_held(hold, 1)
            worker.suspend()
            until(lambda: _expired(table.rows()[0]), "the lease goes on")
        worker.resume()
        assert peer.response().status == 0x0000
        assert len(s3.keys(".dcm")) == 1
        assert process.events("batch_lost") == []


def test_a_killed_worker_leaves_an_open_batch_that_can_be_rebuilt(
    table: Table, aws: dict[str, str]
) -> None:
    client = boto3.client("s3")
    client.create_bucket(Bucket=table.name)
    settings = {"BATCH_TABLE": table.name, "DICOM_BUCKET": table.name, "BATCH_BY": "mixed"}
    with ReceiverProcess(**aws, **settings) as process:
        peer = Peer(process.port, CT)
        with peer:
            worker = process.worker_of(peer.wire.connection.getsockname()[1])
            assert peer.store(GOOD, CT_IMAGE, "1.2.3.4").status == 0x0000
            worker.kill()
            process.wait_for("worker_died")
            peer.vanish()
        (batch,) = table.rows()
        assert batch.owner
        assert batch.lease_expires_at is not None
        (stored,) = client.list_objects_v2(Bucket=table.name)["Contents"]
    head = client.head_object(Bucket=table.name, Key=stored["Key"])
    entry, sender, target = from_metadata(stored["Key"], stored["Size"], head["Metadata"])
    body = client.get_object(Bucket=table.name, Key=stored["Key"])["Body"].read()
    assert batch_of(entry.key) == batch.batch_id
    assert (entry.size, entry.sop_instance_uid) == (len(body), "1.2.3.4")
    assert isinstance(entry.checksum, Checksum)
    assert sender.calling_ae_title == "TESTER"
    assert target == Target("mixed")
    client.close()


def test_without_its_batch_table_the_receiver_acknowledges_nothing(table: Table) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    nowhere = {"AWS_ENDPOINT_URL_DYNAMODB": f"http://127.0.0.1:{port}"}
    with (
        fake_s3() as s3,
        leased(s3, table, **nowhere) as process,
        Peer(process.port, CT) as peer,
    ):
        assert peer.store(GOOD, CT_IMAGE, "1.2.3.4").status == 0xA700
        process.wait_for("store_refused", status="A700H", why="lease: EndpointConnectionError")
        assert s3.objects == {}
