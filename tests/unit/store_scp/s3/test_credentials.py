"""Loads are shared, run beside the loop, and happen only when they are due."""

import asyncio
import datetime as dt
import threading
from collections.abc import Callable

import botocore.exceptions as aws
import pytest
from botocore.credentials import Credentials, RefreshableCredentials
from store_scp.dimse.status import Status
from store_scp.s3.credentials import CredentialSource
from store_scp.s3.errors import AttemptFailed, Remedy


class Provider:
    """Gives credentials that live for ``minutes``, or raises what it is told to."""

    def __init__(self, minutes: float = 60) -> None:
        self.minutes = minutes
        self.calls = 0
        self.threads: set[int] = set()
        self.error: Exception | None = None
        self.may_answer = threading.Event()
        self.may_answer.set()

    def metadata(self) -> dict[str, str]:
        self.calls += 1
        self.threads.add(threading.get_ident())
        self.may_answer.wait(10)
        if self.error is not None:
            raise self.error
        expires = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=self.minutes)
        return {
            "access_key": f"key{self.calls}",
            "secret_key": "secret",
            "token": "token",
            "expiry_time": expires.isoformat(),
        }

    def load(self) -> Credentials:
        return RefreshableCredentials.create_from_metadata(self.metadata(), self.metadata, "test")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def keys(source: CredentialSource) -> "asyncio.Task[str | None]":
    async def key() -> str | None:
        return (await source.current()).access_key

    return asyncio.create_task(key())


def test_one_load_off_the_loop_serves_everyone() -> None:
    provider = Provider()

    async def test() -> None:
        source = CredentialSource(provider.load)
        assert await asyncio.gather(*[keys(source) for _ in range(8)]) == ["key1"] * 8
        assert await keys(source) == "key1"
        assert provider.calls == 1
        assert threading.get_ident() not in provider.threads
        source.close()

    asyncio.run(test())


def test_credentials_that_end_soon_serve_while_new_ones_are_fetched() -> None:
    provider = Provider(minutes=12)

    async def test() -> None:
        clock = Clock()
        source = CredentialSource(provider.load, clock)
        # botocore itself asks twice for what ends so soon.
        assert await keys(source) == "key2"
        clock.now += 2
        provider.may_answer.clear()
        provider.minutes = 60
        assert await keys(source) == "key2"
        provider.may_answer.set()
        while await keys(source) == "key2":
            await asyncio.sleep(0)
        assert await keys(source) == "key3"
        assert provider.calls == 3
        source.close()

    asyncio.run(test())


def test_credentials_that_are_about_to_end_are_waited_for() -> None:
    provider = Provider(minutes=5)

    async def test() -> None:
        clock = Clock()
        source = CredentialSource(provider.load, clock)
        assert await keys(source) == "key2"
        clock.now += 2
        provider.minutes = 60
        assert await asyncio.gather(*[keys(source) for _ in range(4)]) == ["key3"] * 4
        source.close()

    asyncio.run(test())


def test_one_who_gives_up_waiting_takes_the_load_from_no_one() -> None:
    provider = Provider()
    provider.may_answer.clear()

    async def test() -> None:
        source = CredentialSource(provider.load)
        impatient, patient = keys(source), keys(source)
        await asyncio.sleep(0)
        impatient.cancel()
        provider.may_answer.set()
        assert await patient == "key1"
        source.close()

    asyncio.run(test())


def test_rejected_credentials_are_loaded_anew_once() -> None:
    provider = Provider()

    async def test() -> None:
        clock = Clock()
        source = CredentialSource(provider.load, clock)
        rejected = await source.current()
        for _ in range(3):
            source.reject(rejected)
            assert await keys(source) == "key2"
        # A provider that gives the same again is not asked for every object.
        source.reject(await source.current())
        assert await keys(source) == "key2"
        clock.now += 2
        assert await keys(source) == "key3"
        source.close()

    asyncio.run(test())


@pytest.mark.parametrize(
    ("error", "code", "status", "remedy"),
    [
        (
            aws.MetadataRetrievalError(error_msg="DOE^JANE"),
            "MetadataRetrievalError",
            Status.OUT_OF_RESOURCES,
            Remedy.TRY_LATER,
        ),
        (
            aws.PartialCredentialsError(provider="env", cred_var="x"),
            "PartialCredentialsError",
            Status.PROCESSING_FAILURE,
            Remedy.GIVE_UP,
        ),
        (ValueError("DOE^JANE"), "ValueError", Status.OUT_OF_RESOURCES, Remedy.TRY_LATER),
    ],
)
def test_a_load_that_fails_is_told_without_its_text(
    error: Exception, code: str, status: Status, remedy: Remedy
) -> None:
    provider = Provider()
    provider.error = error

    async def test() -> None:
        clock = Clock()
        source = CredentialSource(provider.load, clock)
        # The second is told what the first was: the provider has its pause.
        for _ in range(2):
            with pytest.raises(AttemptFailed) as caught:
                await source.current()
            failed = caught.value
            assert (str(failed), failed.status, failed.remedy) == (code, status, remedy)
        assert provider.calls == 1
        clock.now += 2
        provider.error = None
        assert await keys(source) == "key2"
        source.close()

    asyncio.run(test())


def test_no_credentials_yet_may_pass() -> None:
    async def test() -> None:
        source = CredentialSource(lambda: None)
        with pytest.raises(AttemptFailed, match="NoCredentials") as caught:
            await source.current()
        assert caught.value.status is Status.OUT_OF_RESOURCES
        source.close()

    asyncio.run(test())


def hours_from_the_systems(hours: int) -> Callable[[], dt.datetime]:
    return lambda: dt.datetime.now(dt.UTC) + dt.timedelta(hours=hours)


def test_credentials_are_good_though_the_systems_clock_is_past_their_end() -> None:
    provider = Provider(minutes=60 - 12 * 60)

    async def test() -> None:
        source = CredentialSource(provider.load, Clock(), hours_from_the_systems(-12))
        for _ in range(2):
            assert await keys(source) == "key1"
        assert provider.calls == 1
        source.close()

    asyncio.run(test())


def test_credentials_are_renewed_though_the_systems_clock_is_far_before_their_end() -> None:
    provider = Provider(minutes=5 + 12 * 60)

    async def test() -> None:
        source = CredentialSource(provider.load, Clock(), hours_from_the_systems(12))
        assert await keys(source) == "key2"
        source.close()

    asyncio.run(test())
