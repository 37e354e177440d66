"""S3 falters, lies, stalls or is gone: every operation ends in time, and only successes succeed."""

import asyncio
import random
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from store_scp.clocks import ServerClock
from store_scp.dimse.status import Status
from store_scp.errors import StoreRefused
from store_scp.s3 import AlreadyExists, PartReceipt, retries

from tests.protocol.s3.conftest import Run
from tests.protocol.s3.scripted import (
    OK,
    WANTED,
    Exchange,
    Step,
    answer,
    checksum,
    client,
    early,
    raw,
    reset,
    response,
    scripted_s3,
    stall,
)

BODY = bytes(range(256)) * 2048
# More than loopback's socket buffers ever hold, so that a sender is still sending.
ENDLESS = bytes(32 * 1024 * 1024)

LATER = Status.OUT_OF_RESOURCES
OPERATOR = Status.PROCESSING_FAILURE


def test_a_put_carries_the_bytes_and_what_verifies_them(run: Run) -> None:
    async def test() -> None:
        async with scripted_s3() as s3, client(s3.port) as c:
            await c.bucket.put(
                WANTED, [BODY[:10], memoryview(BODY)[10:]], checksum(BODY), seconds=10
            )
            (got,) = s3.seen
            assert got.body == BODY
            assert got.target == "/bucket/instances/b1/1.2.dcm"
            assert got.headers["x-amz-checksum-crc64nvme"] == checksum(BODY).base64
            assert got.headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
            assert got.headers["x-amz-meta-study"] == "1.2"
            assert "if-none-match" not in got.headers
            assert "expect" not in got.headers
            assert c.stats.attempts == [True]

    run(test())


def test_what_passes_by_itself_is_tried_until_it_has_passed(run: Run) -> None:
    script = [
        reset,
        answer(503, "SlowDown"),
        answer(500, "InternalError"),
        answer(429),
        answer(400, "RequestTimeout"),
    ]

    async def test() -> None:
        async with scripted_s3(*script) as s3, client(s3.port) as c:
            await c.put(BODY)
            assert s3.seen[-1].body == BODY
            assert c.stats.attempts == [False] * 5 + [True]
            assert c.stats.retries == 5

    run(test())


@pytest.mark.parametrize(
    ("step", "word", "status", "requests"),
    [
        (answer(403, "AccessDenied"), "AccessDenied", OPERATOR, 1),
        (answer(404, "NoSuchBucket"), "NoSuchBucket", OPERATOR, 1),
        (answer(400, "KMS.DisabledException"), "KMS.DisabledException", OPERATOR, 1),
        (answer(403, "SignatureDoesNotMatch"), "SignatureDoesNotMatch", OPERATOR, 1),
        (answer(301, Location="http://other/"), "PermanentRedirect", OPERATOR, 1),
        (answer(307), "TemporaryRedirect", OPERATOR, 1),
        (answer(412), "PreconditionFailed", OPERATOR, 1),
        (answer(501, "NotImplemented"), "NotImplemented", OPERATOR, 1),
        (answer(418, body=b"DOE^JANE"), "HTTP 418", OPERATOR, 1),
        (answer(400, "BadDigest"), "BadDigest", OPERATOR, 3),
        (answer(200, x_amz_checksum_crc64nvme="AAAA"), "WrongChecksum", OPERATOR, 3),
        (answer(403, "InvalidAccessKeyId"), "InvalidAccessKeyId", OPERATOR, 2),
        (answer(400, "ExpiredToken"), "ExpiredToken", LATER, 2),
        (answer(503, "SlowDown", Retry_After="60"), "SlowDown", LATER, 1),
    ],
)
def test_each_refusal_has_its_status_and_its_number_of_tries(
    step: Step, word: str, status: Status, requests: int
) -> None:
    async def test() -> None:
        async with scripted_s3(*[step] * 9) as s3, client(s3.port) as c:
            with pytest.raises(StoreRefused) as caught:
                await c.put()
            assert (caught.value.detail, caught.value.status) == (word, status)
            assert len(s3.seen) == requests

    asyncio.run(test())


def test_a_pause_that_s3_asks_for_is_kept() -> None:
    async def test() -> None:
        slow_down = answer(503, "SlowDown", Retry_After="1")
        async with scripted_s3(slow_down) as s3, client(s3.port) as c:
            started = time.monotonic()
            await c.put()
            assert time.monotonic() - started >= 1

    asyncio.run(test())


def test_credentials_that_expire_meanwhile_are_renewed_once_for_all(run: Run) -> None:
    async def test() -> None:
        expired = [answer(400, "ExpiredToken")] * 4
        async with scripted_s3(*expired) as s3, client(s3.port) as c:
            await asyncio.gather(*[c.put(BODY) for _ in range(4)])
            signed_with = [got.headers["authorization"].split("=")[1][:4] for got in s3.seen]
            assert signed_with == ["key1"] * 4 + ["key2"] * 4
            assert c.keys.loads == 2

    run(test())


def test_a_taken_key_is_told_apart_only_if_asked(run: Run) -> None:
    async def test() -> None:
        async with scripted_s3(answer(412, "PreconditionFailed")) as s3, client(s3.port) as c:
            with pytest.raises(AlreadyExists):
                await c.bucket.put(WANTED, [b""], checksum(b""), seconds=5, if_none_match=True)
            assert s3.seen[0].headers["if-none-match"] == "*"

    run(test())


@pytest.mark.alone
@pytest.mark.parametrize(
    "script",
    [
        [stall] * 9,
        [raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab")] * 9,
        [raw(b"HTTP/1.1 200 OK\r\n")] * 9,
    ],
    ids=["silence", "half a body", "half a head"],
)
def test_a_stalled_response_ends_in_time(run: Run, script: list[Step]) -> None:
    async def test() -> None:
        async with scripted_s3(*script) as s3, client(s3.port) as c:
            started = time.monotonic()
            with pytest.raises(StoreRefused, match="Timeout") as caught:
                await c.put(seconds=0.3)
            assert time.monotonic() - started < 2
            assert caught.value.status is LATER

    run(test())


def test_a_server_that_does_not_read_ends_in_time(run: Run) -> None:
    async def hold(_: object) -> None:
        await asyncio.Event().wait()

    async def test() -> None:
        async with scripted_s3(*[hold] * 9) as s3, client(s3.port) as c:
            with pytest.raises(StoreRefused, match="Timeout"):
                await c.put(ENDLESS, seconds=0.5)

    run(test())


def test_one_stalled_attempt_is_not_the_last() -> None:
    async def test() -> None:
        async with scripted_s3(stall) as s3, client(s3.port) as c:
            await c.put(BODY, seconds=3)
            assert c.stats.attempts == [False, True]

    asyncio.run(test())


def test_a_success_before_the_request_is_sent_is_none(run: Run) -> None:
    async def test() -> None:
        async with scripted_s3(early(200)) as s3, client(s3.port) as c:
            await c.put(ENDLESS)
            assert s3.seen[-1].body == ENDLESS
            assert s3.connections == 2

    run(test())


def test_a_success_before_the_last_byte_has_left_is_none(run: Run) -> None:
    # Less than the transport takes without a pause, so that all of it is written at once.
    body = bytes(900_000)

    async def test() -> None:
        async with scripted_s3(OK, early(200)) as s3, client(s3.port) as c:
            await c.put()
            (connection,) = c.pool._open
            kept = connection._transport.get_extra_info("socket")
            kept.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            await c.put(body)
            assert s3.seen[-1].body == body
            assert c.stats.attempts == [True, False, True]

    run(test())


def test_a_body_waits_in_the_caller_s_memory_only(run: Run) -> None:
    async def hold(_: object) -> None:
        await asyncio.Event().wait()

    async def test() -> None:
        async with scripted_s3(hold) as s3, client(s3.port) as c:
            put = asyncio.create_task(c.put(ENDLESS))
            while not s3.seen:
                await asyncio.sleep(0)
            (connection,) = c.pool._open
            assert 0 < connection._transport.get_write_buffer_size() < 2 * 1024 * 1024
            put.cancel()
            with pytest.raises(asyncio.CancelledError):
                await put

    run(test())


def test_a_refusal_before_the_request_is_sent_is_one(run: Run) -> None:
    async def test() -> None:
        async with scripted_s3(early(403, "AccessDenied")) as s3, client(s3.port) as c:
            with pytest.raises(StoreRefused, match="AccessDenied"):
                await c.put(ENDLESS)
            await s3.all_closed.wait()

    run(test())


@pytest.fixture
def one_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pause before another attempt fits, so that none is cut short by the end of the time."""
    monkeypatch.setattr(retries, "_FIRST_PAUSE", 3600.0)
    monkeypatch.setattr(retries, "_LONGEST_PAUSE", 3600.0)
    monkeypatch.setattr(random, "random", lambda: 1.0)


@pytest.mark.usefixtures("one_attempt")
def test_nobody_listens() -> None:
    async def test() -> None:
        async with scripted_s3() as s3:
            port = s3.port
        async with client(port) as c:
            with pytest.raises(StoreRefused, match="ConnectionRefused") as caught:
                await c.put()
            assert caught.value.status is LATER

    asyncio.run(test())


def test_a_closed_bucket_refuses_and_ends_what_is_under_way(run: Run) -> None:
    async def test() -> None:
        reached = asyncio.Event()

        async def hold(_: object) -> None:
            reached.set()
            await asyncio.Event().wait()

        async with scripted_s3(hold) as s3, client(s3.port) as c:
            put = asyncio.create_task(c.put(seconds=60))
            await reached.wait()
            await c.bucket.close()
            with pytest.raises(StoreRefused, match="shutting down"):
                await put

    run(test())


COMPLETED = (
    b"<CompleteMultipartUploadResult xmlns='http://s3.amazonaws.com/doc/2006-03-01/'>"
    b"<ETag>0</ETag><ChecksumCRC64NVME>%s</ChecksumCRC64NVME></CompleteMultipartUploadResult>"
)


def test_the_parts_of_an_upload_become_one_verified_object(run: Run) -> None:
    whole = checksum(BODY)
    completed = COMPLETED % whole.base64.encode()
    script = [
        answer(200, body=b"<InitiateMultipartUploadResult><UploadId>a/b</UploadId></Initiate"
               b"MultipartUploadResult>"),
        answer(200, ETag='"e&1"'),
        # S3 says 200 at once and fails later; while it works it sends white space.
        answer(200, "InternalError"),
        raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (b"\n \n", completed))
            + b"0\r\n\r\n"),
    ]  # fmt: skip

    async def test() -> None:
        async with scripted_s3(*script) as s3, client(s3.port) as c:
            upload_id = await c.bucket.create_multipart(WANTED, seconds=5)
            assert upload_id == "a/b"
            receipt = await c.bucket.put_part("k", upload_id, 1, memoryview(BODY), whole, seconds=5)
            assert receipt == PartReceipt(1, '"e&1"', whole)
            await c.bucket.complete_multipart("k", upload_id, [receipt], whole, seconds=5)
            create, part, _, complete = s3.seen
            assert create.headers["x-amz-checksum-algorithm"] == "CRC64NVME"
            assert create.headers["x-amz-checksum-type"] == "FULL_OBJECT"
            assert part.target == "/bucket/k?partNumber=1&uploadId=a%2Fb"
            assert part.headers["x-amz-checksum-crc64nvme"] == whole.base64
            assert complete.headers["x-amz-checksum-crc64nvme"] == whole.base64
            assert complete.body is not None
            assert b'<ETag>"e&amp;1"</ETag><PartNumber>1</PartNumber>' in complete.body

    run(test())


@pytest.mark.usefixtures("one_attempt")
@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"", "BadResponse"),
        (b"<Error><Code>AccessDenied</Code></Error>", "AccessDenied"),
        (COMPLETED % checksum(b"other").base64.encode(), "WrongChecksum"),
        (b"<!DOCTYPE a>" + COMPLETED % checksum(BODY).base64.encode(), "BadResponse"),
    ],
)
def test_a_completion_that_does_not_say_so_is_none(body: bytes, word: str) -> None:
    async def test() -> None:
        async with scripted_s3(*[answer(200, body=body)] * 99) as s3, client(s3.port) as c:
            with pytest.raises(StoreRefused, match=word):
                await c.bucket.complete_multipart("k", "u", [], checksum(BODY), seconds=10)

    asyncio.run(test())


def test_an_upload_that_is_gone_is_aborted() -> None:
    async def test() -> None:
        script = (raw(b"HTTP/1.1 204 No Content\r\n\r\n"), answer(404, "NoSuchUpload"))
        async with scripted_s3(*script, answer(403, "AccessDenied")) as s3, client(s3.port) as c:
            await c.bucket.abort_multipart("k", "u", seconds=5)
            await c.bucket.abort_multipart("k", "u", seconds=5)
            assert (c.stats.attempts, c.stats.retries) == ([], 0)
            with pytest.raises(StoreRefused, match="AccessDenied"):
                await c.bucket.abort_multipart("k", "u", seconds=5)

    asyncio.run(test())


LONG = b"x" * 100_000


@pytest.mark.parametrize(
    ("garbage", "close"),
    [
        (b"SSH-2.0-OpenSSH\r\n", False),
        (b"\x16\x03\x01\x02\x00", True),
        (b"HTTP/1.1 100 Continue\r\n\r\n", False),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nX: " + LONG, False),
        (b"HTTP/1.1 500 X\r\nContent-Length: 100000\r\n\r\n" + LONG, False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", True),
        (b"HTTP/1.1 200 OK\r\n\r\n", True),
        (b"", True),
    ],
)
def test_what_is_no_complete_response_is_tried_again(run: Run, garbage: bytes, close: bool) -> None:
    async def test() -> None:
        async with scripted_s3(raw(garbage, close=close)) as s3, client(s3.port) as c:
            await c.put(BODY)
            assert c.stats.attempts == [False, True]
            assert s3.connections == 2

    run(test())


def test_an_error_whose_body_ends_with_the_connection_is_read(run: Run) -> None:
    denied = b"HTTP/1.1 403 X\r\n\r\n<Error><Code>AccessDenied</Code></Error>"

    async def test() -> None:
        async with scripted_s3(raw(denied, close=True)) as s3, client(s3.port) as c:
            with pytest.raises(StoreRefused, match="AccessDenied"):
                await c.put()

    run(test())


def test_a_second_response_is_taken_for_no_one_s(run: Run) -> None:
    first, second = checksum(BODY).base64, checksum(b"").base64
    twice = b"".join(response(200, x_amz_checksum_crc64nvme=each) for each in (first, second))

    async def test() -> None:
        async with scripted_s3(raw(twice)) as s3, client(s3.port) as c:
            await c.put(BODY)
            await c.put(BODY)
            assert [got.connection for got in s3.seen] == [1, 2]

    run(test())


def test_an_answer_drop_by_drop_ends_in_time(run: Run) -> None:
    async def drip(got: Exchange) -> None:
        await got.read_body()
        got.writer.write(b"HTTP/1.1 200 OK\r\nX: ")
        while True:
            got.writer.write(b"x")
            await got.writer.drain()
            await asyncio.sleep(0.01)

    async def test() -> None:
        async with scripted_s3(*[drip] * 9) as s3, client(s3.port) as c:
            with pytest.raises(StoreRefused, match="Timeout"):
                await c.put(seconds=0.3)

    run(test())


def _checking(truth: Callable[[], datetime]) -> Step:
    """Refuses what was signed at another time, and says what time it is, as S3 does."""

    async def step(got: Exchange) -> None:
        now = truth()
        signed = datetime.strptime(got.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        refused = abs(signed - now) > timedelta(minutes=15)
        how = answer(403, "RequestTimeTooSkewed", Date=format_datetime(now, usegmt=True))
        await (how if refused else answer(200, Date=format_datetime(now, usegmt=True)))(got)

    return step


@pytest.mark.fault("wrong-clock")
@pytest.mark.parametrize("hours", [-30, -1, 1, 30])
def test_an_object_is_stored_by_a_clock_that_is_hours_off(run: Run, hours: int) -> None:
    clock = ServerClock(lambda: time.time() + hours * 3_600)

    async def test() -> None:
        script = [_checking(lambda: datetime.now(UTC))] * 3
        async with scripted_s3(*script) as s3, client(s3.port, clock=clock) as c:
            await c.put(BODY)
            # The first answer tells the time; from then on nothing is refused.
            await c.put(BODY)
            assert c.stats.attempts == [False, True, True]
            assert c.keys.loads == 1

    run(test())


def test_a_steady_clock_that_missed_hours_is_found_out_within_one_put(run: Run) -> None:
    missed = timedelta()
    clock = ServerClock()

    async def test() -> None:
        nonlocal missed
        script = [_checking(lambda: datetime.now(UTC) + missed)] * 4
        async with scripted_s3(*script) as s3, client(s3.port, clock=clock) as c:
            await c.put(BODY)
            missed = timedelta(hours=7)
            await c.put(BODY)
            assert c.stats.attempts == [True, False, False, True]
            assert abs(clock.now() - datetime.now(UTC) - missed) < timedelta(seconds=5)

    run(test())


def test_a_time_that_nobody_can_sign_is_refused_after_three_attempts(run: Run) -> None:
    async def test() -> None:
        skewed = answer(403, "RequestTimeTooSkewed")
        async with scripted_s3(*[skewed] * 9) as s3, client(s3.port) as c:
            with pytest.raises(StoreRefused, match="RequestTimeTooSkewed") as refused:
                await c.put(BODY)
            assert refused.value.status is OPERATOR
            assert len(s3.seen) == 3

    run(test())


def test_ending_an_upload_is_no_upload_that_failed(run: Run) -> None:
    async def test() -> None:
        async with scripted_s3(answer(404, "NoSuchUpload")) as s3, client(s3.port) as c:
            await c.bucket.abort_multipart("instances/clock", "none", seconds=10)
            assert c.stats.attempts == []
            assert len(s3.seen) == 1

    run(test())
