"""What is acknowledged is in the sink, and is what was sent, byte for byte."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest

from contract.keys import InstanceKey, manifest_key
from contract.manifest import CloseReason, Manifest
from contract.metadata import from_metadata
from tests.protocol.corpus import Sample, samples
from tests.protocol.peer import Peer
from tests.protocol.receiver import ReceiverProcess
from tests.protocol.vitals import CT, GOOD
from tests.protocol.wire import Response
from tests.unit.store_scp.builders import CT_IMAGE, SOP_INSTANCE, checksum, data_set

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

OTHER = data_set(pixels=b"others")
QUICK = {"BATCH_QUIET_SECONDS": "0.2"}


@pytest.fixture(scope="session")
def corpus() -> tuple[Sample, ...]:
    return tuple(samples())


@pytest.fixture
def bucket(
    aws: dict[str, str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> str:
    """A new bucket on the loopback S3."""
    for name, value in aws.items():
        monkeypatch.setenv(name, value)
    name = f"dicom-{hashlib.sha256(request.node.name.encode()).hexdigest()[:12]}"
    boto3.client("s3").create_bucket(Bucket=name)
    return name


@contextmanager
def to_bucket(bucket: str, aws: dict[str, str], **settings: str) -> Iterator[ReceiverProcess]:
    with ReceiverProcess(DICOM_BUCKET=bucket, **aws, **QUICK | settings) as process:
        yield process


def send_all(process: ReceiverProcess, corpus: tuple[Sample, ...]) -> list[Response]:
    """Every sample over one association, each on the context of its class and transfer syntax."""
    pairs = list(dict.fromkeys((s.header.sop_class_uid, s.transfer_syntax) for s in corpus))
    with Peer(process.port, [(abstract, [transfer]) for abstract, transfer in pairs]) as peer:
        return [
            peer.store(
                sample.data_set,
                sample.header.sop_class_uid,
                sample.header.sop_instance_uid,
                2 * pairs.index((sample.header.sop_class_uid, sample.transfer_syntax)) + 1,
            )
            for sample in corpus
        ]


def manifests(client: "S3Client", bucket: str) -> list[Manifest]:
    keys = client.list_objects_v2(Bucket=bucket, Prefix="batches/").get("Contents", [])
    bodies = (client.get_object(Bucket=bucket, Key=each["Key"])["Body"] for each in keys)
    return [Manifest.from_json(body.read()) for body in bodies]


def test_every_sample_lies_in_the_directory_byte_for_byte(
    storing: ReceiverProcess, corpus: tuple[Sample, ...]
) -> None:
    assert len(corpus) > 100
    assert {each.status for each in send_all(storing, corpus)} == {0x0000}
    for sample in corpus:
        header = sample.header
        series = storing.storage / header.study_instance_uid / header.series_instance_uid
        stored = (series / f"{header.sop_instance_uid}.dcm").read_bytes()
        assert stored.endswith(sample.data_set), sample.name
        assert stored[128:132] == b"DICM"


def test_every_sample_lies_in_the_bucket_and_in_one_manifest(
    bucket: str, aws: dict[str, str], corpus: tuple[Sample, ...]
) -> None:
    with to_bucket(bucket, aws) as process:
        assert {each.status for each in send_all(process, corpus)} == {0x0000}
    client = boto3.client("s3")
    listed = [each for manifest in manifests(client, bucket) for each in manifest.instances]
    by_uid = {each.sop_instance_uid: each for each in listed}
    assert len(listed) == len(by_uid) == len(corpus)
    for sample in corpus:
        entry = by_uid[sample.header.sop_instance_uid]
        stored = client.get_object(Bucket=bucket, Key=entry.key)
        body = stored["Body"].read()
        sent = hashlib.sha256(sample.data_set).digest()
        assert hashlib.sha256(body[-len(sample.data_set) :]).digest() == sent, sample.name
        assert (len(body), checksum(body)) == (entry.size, entry.checksum)
        rebuilt, _, _ = from_metadata(entry.key, len(body), stored["Metadata"], entry.checksum)
        assert rebuilt == entry


def test_a_batch_closes_when_its_association_ends_and_it_is_quiet(
    bucket: str, aws: dict[str, str]
) -> None:
    with to_bucket(bucket, aws) as process:
        with Peer(process.port, CT) as peer:
            peer.store(GOOD, CT_IMAGE, "1.2.3.4")
        closed = process.wait_for("batch_closed", reason="quiet", instances=1)
        key = manifest_key(closed["batch_id"])
        body = boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
        manifest = Manifest.from_json(body)
        line = process.wait_for("association")
    assert manifest.source.calling_ae_title == "TESTER"
    assert manifest.source.association_ids == (line["association_id"],)
    assert manifest.instances[0].study_date == "20240131"


def test_sigterm_writes_the_manifest_of_an_open_batch(bucket: str, aws: dict[str, str]) -> None:
    with (
        to_bucket(bucket, aws, DRAIN_SECONDS="0", BATCH_QUIET_SECONDS="30") as process,
        Peer(process.port, CT) as peer,
    ):
        assert peer.store(GOOD, CT_IMAGE, "1.2.3.4").status == 0x0000
        process.terminate()
        peer.aborted_by()
        process.wait_for("stopped")
    (manifest,) = manifests(boto3.client("s3"), bucket)
    assert manifest.close_reason is CloseReason.SHUTDOWN
    assert len(manifest.instances) == 1


def test_a_full_batch_closes_while_its_association_goes_on(
    bucket: str, aws: dict[str, str]
) -> None:
    with (
        to_bucket(bucket, aws, BATCH_MAX_FILES="1") as process,
        Peer(process.port, CT) as peer,
    ):
        assert peer.store(GOOD, CT_IMAGE, "1.2.3.4").status == 0x0000
        process.wait_for("batch_closed", reason="full")


@pytest.mark.fault("same-instance-again")
def test_a_repeated_instance_is_one_object_and_a_conflicting_one_a_second(
    bucket: str, aws: dict[str, str]
) -> None:
    with to_bucket(bucket, aws) as process, Peer(process.port, CT) as peer:
        for encoded in (GOOD, GOOD, OTHER, OTHER):
            assert peer.store(encoded, CT_IMAGE, "1.2.3.4").status == 0x0000
    client = boto3.client("s3")
    objects = client.list_objects_v2(Bucket=bucket, Prefix="instances/")["Contents"]
    assert len({InstanceKey.parse(each["Key"]).batch_id for each in objects}) == 2
    assert sorted(len(each.instances) for each in manifests(client, bucket)) == [1, 1]


@pytest.mark.fault("same-instance-again")
def test_a_conflicting_instance_is_kept_beside_the_first(storing: ReceiverProcess) -> None:
    uid = "1.2.3.40"
    first_data, second_data = (
        data_set(replaced={SOP_INSTANCE: uid.encode()}, pixels=pixels)
        for pixels in (b"first.", b"others")
    )
    with Peer(storing.port, CT) as peer:
        for encoded in (first_data, first_data, second_data, second_data):
            assert peer.store(encoded, CT_IMAGE, uid).status == 0x0000
    first, second = sorted(
        (storing.storage / "1.2.3" / "1.2.3.3").glob(f"{uid}.*"), key=lambda path: len(path.name)
    )
    assert first.name == f"{uid}.dcm"
    assert first.read_bytes().endswith(first_data)
    assert second.read_bytes().endswith(second_data)
    digest = hashlib.sha256(second.read_bytes()).hexdigest()
    assert second.name == f"{uid}.{digest}.dcm"
    storing.wait_for("instance_conflict")


def test_what_a_crashed_run_left_unfinished_is_removed(tmp_path: Path) -> None:
    leftover = tmp_path / ".incoming" / "0123"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"half an image")
    with ReceiverProcess(STORAGE_DIR=str(tmp_path)) as process, Peer(process.port, CT) as peer:
        assert not leftover.exists()
        assert peer.store(GOOD, CT_IMAGE, "1.2.3.4").status == 0x0000
    assert list(leftover.parent.iterdir()) == []
