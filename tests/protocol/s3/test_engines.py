"""What real engines make of our requests: they verify what we rely on S3 to verify."""

import asyncio
import base64
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence

import pytest
from awscrt.checksums import crc64nvme
from store_scp.clocks import ServerClock
from store_scp.dimse.status import Status
from store_scp.errors import StoreRefused
from store_scp.s3 import AlreadyExists, ObjectRequest, S3Bucket, endpoint_of

from contract.checksums import Checksum, ChecksumAlgorithm
from tests.protocol.s3 import engines
from tests.protocol.s3.engines import BUCKET, Engine

BYTES = random.Random(1).randbytes(130_000)  # noqa: S311
OTHER = Checksum.crc64nvme(crc64nvme(b"other bytes"))


def wanted(key: str) -> ObjectRequest:
    return ObjectRequest(key, "application/dicom", {"calling-ae": "A  B", "study": "1.2.3"})


def checksum(data: bytes | memoryview) -> Checksum:
    return Checksum.crc64nvme(crc64nvme(bytes(data)))


@pytest.fixture(scope="module")
def ministack() -> Iterator[Engine]:
    with engines.ministack() as engine:
        yield engine


@pytest.fixture(scope="module")
def moto() -> Iterator[Engine]:
    with engines.moto() as engine:
        yield engine


@pytest.fixture(scope="module")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with engines.rclone(tmp_path_factory.mktemp("rclone")) as engine:
        yield engine


@pytest.fixture(params=["moto", "ministack", "rclone"])
def engine(request: pytest.FixtureRequest) -> Engine:
    chosen: Engine = request.getfixturevalue(request.param)
    return chosen


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[Engine, "Work"], None]:
    def run(engine: Engine, work: "Work") -> None:
        for name, value in engine.environment.items():
            monkeypatch.setenv(name, value)

        async def with_bucket() -> None:
            bucket = S3Bucket.open(endpoint_of(BUCKET), max_connections=4, clock=ServerClock())
            try:
                await work(bucket)
            finally:
                await bucket.close()

        asyncio.run(with_bucket())

    return run


Work = Callable[[S3Bucket], Awaitable[None]]
Use = Callable[[Engine, Work], None]


@pytest.mark.parametrize("key", ["instances/b1/1.2/1.3/1.4.dcm", "a b/ü+~%41=&.dcm"])
def test_an_object_is_there_byte_for_byte(engine: Engine, use: Use, key: str) -> None:
    async def put(bucket: S3Bucket) -> None:
        body = (BYTES[:400], memoryview(BYTES)[400:])
        await bucket.put(wanted(key), body, checksum(BYTES), seconds=30)

    use(engine, put)
    assert engine.read(key) == BYTES


Parts = Sequence[memoryview]


def parts_for(engine: Engine) -> Parts:
    """Two parts of the engine's least size and a rest."""
    size = engine.part_bytes
    large = memoryview(random.Random(2).randbytes(2 * size + size // 5))  # noqa: S311
    return [large[start : start + size] for start in range(0, len(large), size)]


async def upload(bucket: S3Bucket, key: str, parts: Parts, whole: Checksum) -> None:
    upload_id = await bucket.create_multipart(wanted(key), seconds=30)
    receipts = [
        await bucket.put_part(key, upload_id, number, part, checksum(part), seconds=30)
        for number, part in enumerate(parts, 1)
    ]
    await bucket.complete_multipart(key, upload_id, receipts, whole, seconds=30)


def checksum_of_checksums(parts: Parts) -> Checksum:
    """The only kind MiniStack knows of a whole; S3 has none such for CRC64NVME."""
    digests = b"".join(base64.b64decode(checksum(part).base64) for part in parts)
    return Checksum(ChecksumAlgorithm.CRC64NVME, f"{checksum(digests).base64}-{len(parts)}")


def test_an_object_of_many_parts_is_there_byte_for_byte(engine: Engine, use: Use) -> None:
    parts = parts_for(engine)
    large = b"".join(parts)
    whole = checksum_of_checksums(parts) if engine.name == "ministack" else checksum(large)
    use(engine, lambda bucket: upload(bucket, "many-parts", parts, whole))
    assert engine.read("many-parts") == large


def test_a_wrong_checksum_of_the_whole_is_refused(ministack: Engine, use: Use) -> None:
    parts = parts_for(ministack)
    with pytest.raises(StoreRefused, match="BadDigest") as caught:
        use(ministack, lambda bucket: upload(bucket, "damaged-whole", parts, OTHER))
    assert caught.value.status is Status.PROCESSING_FAILURE
    assert "damaged-whole" not in ministack.names()


def test_an_aborted_upload_leaves_nothing(engine: Engine, use: Use) -> None:
    async def abort(bucket: S3Bucket) -> None:
        upload_id = await bucket.create_multipart(wanted("aborted"), seconds=30)
        for _ in range(2):
            await bucket.abort_multipart("aborted", upload_id, seconds=30)

    use(engine, abort)
    assert "aborted" not in engine.names()


@pytest.mark.parametrize("name", ["moto", "ministack"])
def test_a_taken_key_is_told_apart(name: str, request: pytest.FixtureRequest, use: Use) -> None:
    engine: Engine = request.getfixturevalue(name)

    async def put_twice(bucket: S3Bucket) -> None:
        taken = wanted("batches/b1.json")
        for body in (b"first", b"second"):
            await bucket.put(taken, [body], checksum(body), seconds=30, if_none_match=True)

    with pytest.raises(AlreadyExists):
        use(engine, put_twice)
    assert engine.read("batches/b1.json") == b"first"


def test_a_wrong_checksum_is_refused(ministack: Engine, use: Use) -> None:
    async def put(bucket: S3Bucket) -> None:
        await bucket.put(wanted("damaged"), [BYTES], OTHER, seconds=30)

    with pytest.raises(StoreRefused, match="BadDigest") as caught:
        use(ministack, put)
    assert caught.value.status is Status.PROCESSING_FAILURE
    assert "damaged" not in ministack.names()


def test_a_wrong_checksum_of_a_part_is_refused(ministack: Engine, use: Use) -> None:
    async def put(bucket: S3Bucket) -> None:
        upload_id = await bucket.create_multipart(wanted("damaged"), seconds=30)
        await bucket.put_part("damaged", upload_id, 1, memoryview(BYTES), OTHER, seconds=30)

    with pytest.raises(StoreRefused, match="BadDigest"):
        use(ministack, put)


def test_a_part_of_no_upload_is_refused(ministack: Engine, use: Use) -> None:
    async def put(bucket: S3Bucket) -> None:
        await bucket.put_part("k", "none", 1, memoryview(BYTES), checksum(BYTES), seconds=30)

    with pytest.raises(StoreRefused, match="NoSuchUpload"):
        use(ministack, put)


def test_a_wrong_secret_is_refused(
    rclone: Engine, use: Use, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def put(bucket: S3Bucket) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
        await bucket.put(wanted("unsigned"), [BYTES], checksum(BYTES), seconds=30)

    with pytest.raises(StoreRefused, match="SignatureDoesNotMatch") as caught:
        use(rclone, put)
    assert caught.value.status is Status.PROCESSING_FAILURE
    assert "unsigned" not in rclone.names()
