"""No part of an invocation outlasts it, though each has work for ever and takes its longest."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from chalicelib.deadline import Deadline
from chalicelib.errors import MessagesFailed
from chalicelib.intake import dropbox as dropping
from chalicelib.intake import recovery as recovering
from chalicelib.intake import trigger as triggering
from chalicelib.intake.dispatch import Desk, dispatch
from chalicelib.intake.dropbox import Dropbox, collect
from chalicelib.intake.recovery import Recovery, recover_batches
from chalicelib.intake.trigger import Intake, Message, trigger_imports
from chalicelib.operations import expire as expiring
from chalicelib.operations.expire import Expiry, expire
from chalicelib.settings import RecoverySettings
from chalicelib.stores.lock import MemoryLock
from chalicelib.stores.memory import MemoryBatches
from chalicelib.stores.outbox import Due, MemoryOutbox

from contract.batch_states import BatchEvent
from contract.keys import manifest_key
from contract.records import BatchState
from tests.unit.chalicelib.builders import (
    BUCKET,
    DATASTORE,
    NOW,
    a_batch,
    files_of,
    memory_stores,
    outbox_of,
)
from tests.unit.chalicelib.test_dispatch import World
from tests.unit.chalicelib.test_trigger import FakeQueue, event, record

_MESSAGES = 2_000  # more than there is time for
TRIGGER_SECONDS = 120  # trigger_import's timeout in .chalice/config.json


def ids() -> Iterator[str]:
    return (f"20261123T093000Z-{number:016x}" for number in itertools.count())


class Shop:
    """Work for ever, and a clock that each piece of it moves on by what it may take."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
        self.world = World()
        self.until = Deadline(NOW + timedelta(seconds=seconds), NOW)
        self.done: list[str] = []
        self._patch = monkeypatch

    @property
    def now(self) -> datetime:
        return self.world.clock.time

    def takes(self, module: Any, name: str, seconds: float, answer: Any = None) -> None:
        """``module.name`` does nothing but take its time."""

        def work(*_: object) -> Any:
            self.done.append(name)
            self.world.clock.time += timedelta(seconds=seconds)
            return answer

        self._patch.setattr(module, name, work)

    def trigger(self) -> FakeQueue:
        queue = FakeQueue()
        messages = [
            Message(each, event(record(manifest_key(each)), record(f"dropbox/{each}")), each)
            for each in itertools.islice(ids(), _MESSAGES)
        ]
        intake = Intake(
            BUCKET, memory_stores(), DATASTORE, NOW, unblocked, self.collect, self._dispatch,
            self.until, lambda: self.now,
        )  # fmt: skip
        with pytest.raises(MessagesFailed):
            trigger_imports(messages, intake, queue)
        return queue

    def collect(self) -> None:
        stores = memory_stores()
        box = Dropbox(
            files_of(stores), stores, outbox_of(stores), MemoryLock(), lambda: self.now, "me",
            self.until,
        )  # fmt: skip
        assert collect(box)

    def _dispatch(self, _: object) -> None:
        dispatch(self.desk())

    def desk(self) -> Desk:
        return replace(self.world.desk(), deadline=self.until)


def unblocked(batch_id: str, error: Exception) -> None:
    raise error


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Shop:
    shop = Shop(monkeypatch, TRIGGER_SECONDS - 2)
    monkeypatch.setattr(dropping, "_rounds", lambda _: itertools.repeat([]))
    for batch in shop.world.close(500):
        assert shop.world.batches.rows[batch.batch_id].state is BatchState.CLOSED
    return shop


# The seconds of a close, of a round of the dropbox, and of a start: as little as all of them
# together take on a good day, and as much as each is reckoned to take at most.
PACES = [(1, 5, 0.1), (30, 1, 1), (7, 55, 3), (30, 55, 15), (0.1, 20, 0.1), (29, 54, 14)]


@pytest.mark.parametrize(("close", "collect_", "start"), PACES)
def test_the_parts_of_trigger_import_end_within_its_timeout(
    close: float, collect_: float, start: float, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.takes(triggering, "close_batch", close, a_batch())
    shop.takes(dropping, "import_dropped", collect_)
    real = shop.world.workflow.start

    def slow(*arguments: Any) -> bool:
        shop.done.append("start")
        shop.world.clock.time += timedelta(seconds=start)
        return real(*arguments)

    monkeypatch.setattr(shop.world.workflow, "start", slow)
    queue = shop.trigger()
    assert shop.now <= shop.until.ends_at
    assert "close_batch" in shop.done
    # What was closed is deleted from the queue; the rest comes back.
    assert len(queue.deleted) == shop.done.count("close_batch") < _MESSAGES
    assert shop.world.gate.holder is None


def test_each_part_has_its_turn_where_the_ones_before_it_leave_time(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.takes(triggering, "close_batch", 2, a_batch())
    shop.takes(dropping, "import_dropped", 20)
    monkeypatch.setattr(triggering, "_CLOSING", timedelta(seconds=100))
    shop.trigger()
    assert {"close_batch", "import_dropped"} <= {*shop.done}
    assert shop.world.workflow.started


def test_the_dropbox_begins_no_round_that_does_not_fit(shop: Shop) -> None:
    shop.takes(dropping, "import_dropped", 1)
    shop.world.clock.time = shop.until.ends_at - timedelta(seconds=54)
    shop.collect()
    assert shop.done == []


def test_recovery_ends_within_its_timeout_and_goes_on_in_the_next(shop: Shop) -> None:
    stores = memory_stores()
    expired = NOW - timedelta(hours=1)
    for batch_id in itertools.islice(ids(), 20):
        batch = replace(a_batch(BatchState.OPEN, batch_id), lease_expires_at=expired, owner="t")
        assert stores.batches.move(batch, BatchEvent.OPENED)
    shop.takes(recovering, "_recover", 100, True)
    settings = RecoverySettings(dicom_bucket=BUCKET, datastore_id=DATASTORE)
    until = Deadline(NOW + timedelta(seconds=298))
    work = Recovery(
        stores, outbox_of(stores), files_of(stores), settings, NOW, deadline=until,
        clock=lambda: shop.now,
    )  # fmt: skip
    assert recover_batches(work) == 2
    assert shop.now <= until.ends_at
    shop.takes(recovering, "_recover", 1, True)
    later = Deadline(shop.now + timedelta(seconds=298))
    assert recover_batches(replace(work, deadline=later)) == 20


def test_expiry_ends_within_its_timeout(shop: Shop) -> None:
    stores = memory_stores()

    class Endless(MemoryOutbox):
        def due(self, due: Due, until: datetime) -> Iterator[str]:
            del due, until
            return ids()

    shop.takes(expiring, "_expire", 50, 1)
    until, outbox = Deadline(NOW + timedelta(seconds=300)), Endless(MemoryBatches())
    day = timedelta(days=1)
    work = Expiry(stores, outbox, files_of(stores), day, lambda: shop.now, until)
    assert expire(work) == 5
    assert shop.now <= until.ends_at
