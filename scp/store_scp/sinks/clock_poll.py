"""Asks S3 what time it is where nobody else does: at the start, and while no sender comes."""

import asyncio

import structlog

from contract.keys import INSTANCES_PREFIX
from store_scp.clocks import ServerClock
from store_scp.errors import StoreRefused
from store_scp.logs import describe
from store_scp.s3 import S3Bucket

# What every receiver may do already; costs nothing, changes nothing and needs no object: it ends
# an upload that does not exist.
# https://docs.aws.amazon.com/AmazonS3/latest/API/API_AbortMultipartUpload.html
_KEY = f"{INSTANCES_PREFIX}clock"
_UPLOAD_ID = "none"
# One question with its retries. Who places instances meanwhile waits for the first to end.
FIRST_SECONDS = 5.0
# Between two questions while an answer is wanted: doubled each time, from the first to the last.
_FIRST_PAUSE = 1.0
_LAST_PAUSE = 30.0
# Between two looks at whether an answer is wanted.
_CHECK_SECONDS = 1.0

_log = structlog.get_logger()


class ClockPoll:
    """A task that asks for the time whenever the clock wants an answer."""

    def __init__(self, bucket: S3Bucket, clock: ServerClock) -> None:
        self._bucket = bucket
        self._clock = clock
        self._asked = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def wait(self, seconds: float) -> None:
        """Until the clock is known, or the first question has failed, or so many seconds."""
        if self._clock.known:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._asked.wait()
        except TimeoutError:
            return

    def close(self) -> None:
        """Ask no more."""
        self._task.cancel()

    async def _run(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            if not self._clock.wants_answer():
                pause = _FIRST_PAUSE
                await asyncio.sleep(_CHECK_SECONDS)
                continue
            why = await self._ask()
            self._asked.set()
            if not self._clock.known:
                _log.warning("clock_unknown", why=why, again_in=pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LAST_PAUSE)

    async def _ask(self) -> str:
        """Ask once; why the answer, if there is one, may not say the time."""
        try:
            await self._bucket.abort_multipart(_KEY, _UPLOAD_ID, seconds=FIRST_SECONDS)
        except StoreRefused as refused:
            return refused.detail
        except Exception as error:  # noqa: BLE001 - or the receiver would never be ready
            return describe(error)
        return "NoDate"
