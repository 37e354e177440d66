"""A sink in this process, as a worker opens it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from store_scp.board import Board
from store_scp.clocks import ServerClock
from store_scp.settings import Settings
from store_scp.sinks import Sink, open_sink, prepare_sink

from tests.protocol.fake_s3 import FakeS3


def to_bucket(s3: FakeS3, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    for name, value in s3.environment.items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    return s3.environment


@asynccontextmanager
async def opened(environment: dict[str, str], **more: str) -> AsyncIterator[Sink]:
    settings = Settings.from_env(environment | more)
    sink = open_sink(settings, prepare_sink(settings), Board.create(1, 1).panel(0), ServerClock())
    try:
        yield sink
    finally:
        await sink.close(2)
