"""Files, lock, journal and list of batches keep the same promises in memory and on AWS."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from botocore.stub import Stubber
from chalicelib import aws
from chalicelib.errors import (
    ObjectChanged,
    ObjectDenied,
    ObjectMissing,
    ObjectTooLarge,
    ServiceUnavailable,
)
from chalicelib.operations.journal import DynamoJournal, Entry, Journal, MemoryJournal
from chalicelib.stores.dynamodb import DynamoBatches
from chalicelib.stores.files import Files, StoredObject
from chalicelib.stores.lock import DynamoLock, Lock, MemoryLock
from chalicelib.stores.memory import MemoryBatches, MemoryObjects
from chalicelib.stores.memory_files import MemoryFiles
from chalicelib.stores.s3_files import S3Files

from tests.pipeline.chalicelib.conftest import BUCKET
from tests.unit.chalicelib.builders import (
    BATCH,
    NOW,
    remove,
)


@dataclass(frozen=True)
class Ports:
    """The same ports in memory and on AWS."""

    files: Files
    lock: Lock
    journal: Journal
    batches: Any


@pytest.fixture(params=["memory", "aws"])
def ports(request: pytest.FixtureRequest) -> Ports:
    if request.param == "memory":
        batches = MemoryBatches()
        files = MemoryFiles(MemoryObjects(), BUCKET)
        return Ports(files, MemoryLock(), MemoryJournal(), batches)
    request.getfixturevalue("_aws")
    dynamodb, table = aws.dynamodb(), "DicomBatchRecordTable"
    return Ports(
        S3Files(aws.s3(), BUCKET),
        DynamoLock(dynamodb, table, "lock"),
        DynamoJournal(dynamodb, table),
        DynamoBatches(dynamodb, table),
    )


def test_folders_are_what_is_right_below(ports: Ports) -> None:
    for key in ("a/1/x", "a/1/y", "a/2/z/deep", "a/file", "ab/3/x"):
        ports.files.put(key, b"x")
    assert list(ports.files.folders("a/")) == ["1", "2"]
    assert list(ports.files.folders("none/")) == []


def test_objects_are_listed_in_order_from_any_key_on(ports: Ports) -> None:
    for key in ("a/3", "a/1", "b/1", "a/2"):
        ports.files.put(key, key.encode())
    listed = list(ports.files.list("a/"))
    assert [(each.key, each.size) for each in listed] == [("a/1", 3), ("a/2", 3), ("a/3", 3)]
    assert [each.key for each in ports.files.list("a/", "a/1")] == ["a/2", "a/3"]
    remove(ports.files, ["a/1", "a/2", "gone"])
    assert [each.key for each in ports.files.list("")] == ["a/3", "b/1"]


def test_a_listing_tells_no_metadata_and_what_was_listed_may_be_gone(ports: Ports) -> None:
    ports.files.put("a/1", b"body")
    ports.files.copy(ports.files.head("a/1"), "a/2", {"reason": "x"})
    listed = ports.files.list("a/")
    first = next(listed)
    remove(ports.files, ["a/1", "a/2"])
    second = next(listed)
    assert [(each.key, each.metadata, each.checksum) for each in (first, second)] == [
        ("a/1", {}, None),
        ("a/2", {}, None),
    ]


def test_an_etag_is_that_of_the_bytes(ports: Ports) -> None:
    ports.files.put("a", b"body")
    (listed,) = ports.files.list("")
    assert listed.etag == ports.files.head("a").etag == '"841a2d689ad86bd1611447453c22c6fc"'


def test_an_object_that_is_written_again_has_none_of_the_old_metadata(ports: Ports) -> None:
    ports.files.put("a", b"body")
    ports.files.copy(ports.files.head("a"), "b", {"reason": "x"})
    ports.files.put("b", b"another")
    assert ports.files.head("b").metadata == {}
    ports.files.copy(ports.files.head("a"), "b", {"reason": "x"})
    remove(ports.files, ["b"])
    assert ports.files.create("b", b"another")
    assert ports.files.head("b").metadata == {}


def test_an_object_is_read_from_its_beginning_or_whole(ports: Ports) -> None:
    ports.files.put("a", b"0123456789")
    ports.files.put("empty", b"")
    data, stored = ports.files.begin("a", 4)
    assert (data, stored.size) == (b"0123", 10)
    assert ports.files.begin("a", 100)[0] == b"0123456789"
    assert ports.files.begin("empty", 4)[0] == b""
    assert ports.files.read("a", 10) == b"0123456789"
    assert ports.files.read("empty", 10) == b""
    with pytest.raises(ObjectTooLarge):
        ports.files.read("a", 9)
    for read in (ports.files.head, lambda key: ports.files.begin(key, 4)):
        with pytest.raises(ObjectMissing):
            read("gone")


@pytest.mark.fault("object-denied")
def test_an_object_that_may_not_be_read_is_listed_and_denied(ports: Ports) -> None:
    ports.files.put("a", b"body")
    source = ports.files.head("a")
    if isinstance(ports.files, MemoryFiles):
        ports.files.objects.denied.add((BUCKET, "a"))
    else:
        aws.s3().put_object(Bucket=BUCKET, Key="a", Body=b"body", StorageClass="GLACIER")
    assert [each.key for each in ports.files.list("")] == ["a"]
    with pytest.raises(ObjectDenied):
        ports.files.begin("a", 4)
    with pytest.raises(ObjectDenied):
        ports.files.read("a", 4)
    with pytest.raises(ObjectDenied):
        ports.files.copy(source, "b", {})


def test_a_copy_has_new_metadata_and_the_checksum_of_its_bytes(ports: Ports) -> None:
    ports.files.put("a b\u00e9", b"body")
    source = ports.files.head("a b\u00e9")
    checksum = ports.files.copy(source, "b", {"reason": "x"})
    copy = ports.files.head("b")
    assert (copy.metadata, copy.checksum, copy.size) == ({"reason": "x"}, checksum, 4)
    with pytest.raises(ObjectMissing):
        ports.files.copy(replace(source, key="gone"), "c", {})


def test_only_the_object_that_was_read_is_copied(ports: Ports) -> None:
    ports.files.put("a", b"one")
    read = ports.files.head("a")
    ports.files.put("a", b"another")
    with pytest.raises(ObjectChanged):
        ports.files.copy(read, "b", {})
    assert [each.key for each in ports.files.list("")] == ["a"]


def test_only_the_object_that_was_read_is_deleted(ports: Ports) -> None:
    ports.files.put("a\x01b", b"one")
    read = ports.files.head("a\x01b")
    ports.files.put("a\x01b", b"another")
    with pytest.raises(ObjectChanged):
        ports.files.delete(read.key, read.etag)
    assert ports.files.read("a\x01b", 10) == b"another"
    for _ in range(2):
        ports.files.delete(read.key, ports.files.head("a\x01b").etag if _ == 0 else "gone")
    assert list(ports.files.list("")) == []


def test_an_object_is_created_once(ports: Ports) -> None:
    assert ports.files.create("a", b"one")
    assert not ports.files.create("a", b"another")
    assert ports.files.read("a", 10) == b"one"


def test_the_uploads_under_a_prefix_are_ended_and_no_others(ports: Ports) -> None:
    for key in ("a/1", "a/2", "a/2", "b/1"):
        begin_upload(ports.files, key)
    assert ports.files.end_uploads("a/") == 3
    assert ports.files.end_uploads("a/") == 0
    assert ports.files.end_uploads("") == 1


def begin_upload(files: Files, key: str) -> None:
    if isinstance(files, MemoryFiles):
        files.objects.uploads.append((BUCKET, key))
    else:
        aws.s3().create_multipart_upload(Bucket=BUCKET, Key=key)


@pytest.mark.usefixtures("_aws")
def test_a_large_object_is_copied_part_by_part_with_one_checksum() -> None:
    whole, parts = S3Files(aws.s3(), BUCKET), S3Files(aws.s3(), BUCKET, whole_copy_bytes=1_000)
    whole.put("a", b"x" * 9_000_000)
    source = whole.head("a")
    assert parts.copy(source, "b", {"n": "v"}) == whole.copy(source, "c", {})
    assert whole.head("b").metadata == {"n": "v"}
    whole.put("a", b"y" * 9_000_000)
    with pytest.raises(ObjectChanged):
        parts.copy(source, "d", {})


@pytest.mark.usefixtures("moto_runs")
def test_what_s3_says_against_a_call_is_told_apart() -> None:
    client = aws.s3()
    files = S3Files(client, BUCKET)
    with Stubber(client) as stub:
        stub.add_client_error("copy_object", "PreconditionFailed", http_status_code=412)
        with pytest.raises(ObjectChanged):
            files.copy(StoredObject("a", 1, "e", NOW), "b", {})
        for code, status, kind in (
            ("InternalError", 500, ServiceUnavailable),
            ("ConditionalRequestConflict", 409, ServiceUnavailable),
            ("PreconditionFailed", 412, ObjectChanged),
            ("AccessDenied", 403, ObjectDenied),
        ):
            stub.add_client_error("delete_object", code, http_status_code=status)
            with pytest.raises(kind):
                files.delete("a", "e")
        stub.add_client_error("delete_object", "NoSuchKey", http_status_code=404)
        files.delete("a", "e")
        stub.add_client_error("list_objects_v2", "SlowDown", http_status_code=503)
        with pytest.raises(ServiceUnavailable):
            list(files.list("a"))
        uploads = {"Uploads": [{"Key": "a", "UploadId": "u"}]}
        stub.add_response("list_multipart_uploads", uploads)
        stub.add_client_error("abort_multipart_upload", "NoSuchUpload", http_status_code=404)
        assert files.end_uploads("a") == 1
        stub.add_response("list_multipart_uploads", uploads)
        stub.add_client_error("abort_multipart_upload", "SlowDown", http_status_code=503)
        with pytest.raises(ServiceUnavailable):
            files.end_uploads("a")
        stub.add_client_error("get_object", "AccessDenied", http_status_code=403)
        with pytest.raises(ObjectDenied):
            files.begin("a", 1)


def test_a_lock_is_one_holders_until_its_time_is_over(ports: Ports) -> None:
    later = NOW + timedelta(seconds=30)
    assert ports.lock.take("one", NOW, later)
    assert not ports.lock.take("other", NOW, later)
    ports.lock.leave("other")
    assert not ports.lock.take("other", later, later)
    assert ports.lock.take("other", later + timedelta(seconds=1), later + timedelta(minutes=1))
    ports.lock.leave("one")
    assert not ports.lock.take("one", later, later)
    ports.lock.leave("other")
    assert ports.lock.take("one", NOW, later)


def test_the_first_entry_of_a_subject_stays(ports: Ports) -> None:
    first = Entry("retry:x", BATCH, "why", NOW)
    assert ports.journal.get("retry:x") is None
    assert ports.journal.begin(first) == first
    assert ports.journal.begin(replace(first, reason="another")) == first
    assert ports.journal.get("retry:x") == first
    assert ports.journal.of_batch(BATCH) == first
    assert ports.journal.of_batch("another") is None
