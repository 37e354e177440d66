"""What the S3 stand-in answers, and what it writes into its index."""

import json
import os
from pathlib import Path

import pytest

from bench.receiver.s3_stand_in import INDEX, Bucket, Request


def finish(bucket: Bucket, method: str, target: str, body: bytes = b"") -> tuple[str, int, str]:
    name, descriptor = bucket.new_file()
    os.write(descriptor, body)
    os.close(descriptor)
    return name, *bucket.finish(Request.of(method, target, {}), name)


def index(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / INDEX).read_text().splitlines()]


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    return Bucket(tmp_path)


def test_a_put_is_an_object(bucket: Bucket, tmp_path: Path) -> None:
    name, status, _ = finish(bucket, "PUT", "/bench/a%20b.dcm", b"body")
    assert status == 200
    assert index(tmp_path) == [{"key": "/bench/a b.dcm", "parts": [[name, False]]}]
    assert (tmp_path / name).read_bytes() == b"body"


def test_parts_are_one_object_in_the_order_of_their_numbers(bucket: Bucket, tmp_path: Path) -> None:
    upload, _, answer = finish(bucket, "POST", "/bench/k.dcm?uploads")
    assert f"<UploadId>{upload}</UploadId>" in answer
    second, *_ = finish(bucket, "PUT", f"/bench/k.dcm?partNumber=2&uploadId={upload}")
    first, *_ = finish(bucket, "PUT", f"/bench/k.dcm?partNumber=1&uploadId={upload}")
    assert index(tmp_path) == []
    finish(bucket, "POST", f"/bench/k.dcm?uploadId={upload}")
    assert index(tmp_path) == [{"key": "/bench/k.dcm", "parts": [[first, False], [second, False]]}]


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("DELETE", 204), ("GET", 404)])
def test_what_stores_nothing_leaves_no_object(
    bucket: Bucket, tmp_path: Path, method: str, status: int
) -> None:
    assert finish(bucket, method, "/bench/k.dcm")[1] == status
    assert index(tmp_path) == []
