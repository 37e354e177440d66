"""Batches with one and the same instance and checksum, whose steps interleave at every call.

Three batches are sent. Each has the same bytes, or others whose checksum was forged. A fourth is
older (``Old``). One of them may be for another data store than the others. Each has a thread: the
batch is closed, and its import started; or it has failed before that. What fails is retried or
released, into a batch whose import is started in the same thread. HealthImaging may refuse a start,
which fails the batch, or throttle it once. The end of a job is recorded right behind its start, or
not at all. The old batch may be retried meanwhile.

The steps are the product's own, on its in-memory stores. One thread runs at a time. Before each
call of a store, of the bucket, of the journal and of HealthImaging another may go on; of a Query or
a BatchGetItem of the ledger, before each row: DynamoDB reads one after another, so some may be as
they were before another batch's transaction, and others as after it. All that happens follows from
a seed.

In the end (``defects``):

- one batch at most has imported the same bytes into a data store; each batch has one row at most;
- what was sent for a data store is imported there, or has a FAILED row; each of these has its
  object;
- a batch whose import was started has a row; no batch that has ended has a row that waits;
- each step has ended, after some repetitions at most.

What the races leave out:

- Batches of several instances. So what is decided about one for the sake of another is not seen.
- Processes that die, answers that are lost, jobs that fail, image sets that are deleted, imports
  that are forced. ``import_model`` has them, but it reads all rows of a Query at once.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import fields, replace
from enum import Enum, auto
from random import Random
from typing import Any, NamedTuple, TypeVar

from chalicelib.errors import ApiProblem, ImportRefused, ImportThrottled, ServiceUnavailable
from chalicelib.imports.aside import failed_key
from chalicelib.imports.context import ImportContext
from chalicelib.imports.execution import Execution
from chalicelib.imports.failure import record_failure
from chalicelib.imports.start import start_import
from chalicelib.operations.journal import MemoryJournal
from chalicelib.operations.release import release_instance
from chalicelib.operations.repeat import Operations
from chalicelib.operations.retry import retry_batch
from chalicelib.stores import Stores
from chalicelib.stores import instances as ledger
from chalicelib.stores.memory import MemoryInstances

from contract.batch_states import ENDED, BatchEvent
from contract.keys import manifest_key
from tests.model.claim_turns import Ledger, Port, Turns
from tests.model.explorer import Finding
from tests.model.import_explorer import unlogged
from tests.unit.chalicelib.builders import (
    BATCH,
    BUCKET,
    DATASTORE,
    EVENT,
    NEWER_BATCH,
    NOW,
    FakeHealthImaging,
    a_context,
    an_instance,
    files_of,
    instance_rows,
)
from tests.unit.chalicelib.claim_scenes import (
    FAILED,
    IMPORTED,
    RECEIVED,
    THIRD_BATCH,
    close,
    ends,
    manifest_of,
    objects_of,
    sent,
)

OLD_BATCH = "20261123T090000Z-0001020304050607"
_SENT = (BATCH, NEWER_BATCH, THIRD_BATCH)
_UID = "1.2.3.1"
_SAME, _FORGED = b"same", b"forged"
_OTHER = "1" * 32
# How often a step is tried that other batches, or a throttled start, have stopped.
_TRIES = 12

T = TypeVar("T")


class Old(Enum):
    """What became of an older batch, which has the same bytes."""

    NONE = auto()  # there is none
    FAILED = auto()
    ARCHIVED = auto()  # it failed, and its object may not be read before it is restored
    GONE = auto()  # it was imported, and its object was deleted


class Content(NamedTuple):
    """What a batch is to bring, and to which data store."""

    body: bytes
    datastore_id: str

    def __str__(self) -> str:
        return f"the {self.body.decode()} bytes for {self.datastore_id[:2]}"


class Race:
    """What is kept, and what each thread does; ``imported`` are the batches that were started."""

    def __init__(self, seed: int, old: Old | None) -> None:
        self.chance = Random(seed)  # noqa: S311 - a race, no secret
        self.turns = Turns(self.chance)
        self.old = old or self.chance.choice([*Old])
        bodies = {each: self.chance.choice((_SAME, _SAME, _FORGED)) for each in _SENT}
        if self.old is not Old.NONE:
            bodies[OLD_BATCH] = _SAME
        other = self.chance.choice((None, self.chance.choice([*bodies])))
        self.contents = {
            each: Content(body, _OTHER if each == other else DATASTORE)
            for each, body in bodies.items()
        }
        self.imported: set[str] = set()
        self.stores = sent(bodies, {} if other is None else {other: _OTHER})
        assert isinstance(self.stores.instances, MemoryInstances)
        self.instances = self.stores.instances
        self._journal: Any = Port(MemoryJournal(), self.turns)
        ports: dict[str, Any] = {
            each.name: Port(getattr(self.stores, each.name), self.turns) for each in fields(Stores)
        }
        self._ports = Stores(**ports | {"instances": Ledger(self.instances, self.turns)})

    def run(self) -> None:
        self._end_old_batch()
        agents = {each: self._agent(each) for each in _SENT}
        if self.old in (Old.FAILED, Old.ARCHIVED):
            agents[OLD_BATCH] = self._retry_old_batch
        self.turns.run(agents)

    def _end_old_batch(self) -> None:
        if self.old is Old.NONE:
            return
        objects, key = objects_of(self.stores), an_instance(_UID, OLD_BATCH).key
        close(self.stores, OLD_BATCH)
        if self.old is Old.GONE:
            ends(self.stores, OLD_BATCH)
            self._move(OLD_BATCH, BatchEvent.IMPORTED)
            del objects.bodies[BUCKET, key]
            return
        self._fail(OLD_BATCH)
        if self.old is Old.ARCHIVED:
            objects.denied.add((BUCKET, failed_key(key)))

    def _retry_old_batch(self) -> None:
        is_retried = self.chance.choice((True, False))
        self.turns.point("restore")
        objects_of(self.stores).denied.clear()
        if is_retried:
            self._repeat(OLD_BATCH)

    def _agent(self, batch_id: str) -> Callable[[], None]:
        is_imported = self.chance.choice((True, False))

        def agent() -> None:
            rows = instance_rows(manifest_of(self.stores, batch_id), RECEIVED, NOW)
            ledger.register(self._ports.instances, rows)
            if is_imported:
                self._import(batch_id)
            else:
                self._fail(batch_id)
                self._repeat(batch_id)

        return agent

    def _import(self, batch_id: str) -> None:
        """Start the import, and perhaps record its end; if it is refused, repeat the batch."""
        faults = self.chance.choice(([], [], [], [ImportRefused("no")], [ImportThrottled("later")]))
        service = FakeHealthImaging(faults=[*faults], job_id=f"job-{batch_id}")
        try:
            self._start(batch_id, service)
        except ImportRefused:
            self._fail(batch_id)
            self._repeat(batch_id)
            return
        if service.started:
            self.imported.add(batch_id)
            if self.chance.choice((True, False)):
                self._complete(batch_id, service)

    def _start(self, batch_id: str, service: FakeHealthImaging) -> None:
        execution = Execution(batch_id, BUCKET, manifest_key(batch_id))
        _until_done(lambda: start_import(execution, self._context(service)))

    def _complete(self, batch_id: str, service: FakeHealthImaging) -> None:
        manifest = manifest_of(self.stores, batch_id)
        rows = instance_rows(manifest, IMPORTED, NOW, job_id=service.job_id)
        placed = [replace(row, image_set_id="a" * 32) for row in rows]
        self._context(service).record(batch_id, placed)
        self._move(batch_id, BatchEvent.IMPORTED)

    def _fail(self, batch_id: str) -> None:
        event = EVENT | {
            "batchId": batch_id,
            "manifestKey": manifest_key(batch_id),
            "error": {"Error": "ImportRefused", "Cause": "{}"},
        }
        _until_done(lambda: record_failure(event, self._context(FakeHealthImaging())))

    def _repeat(self, batch_id: str) -> None:
        """Retry or release what has failed, if that is allowed, and import it."""
        repeat = self.chance.choice((self._retry, self._retry, self._release))
        try:
            new = _until_done(lambda: repeat(batch_id))
        except ApiProblem:  # another batch imports it
            return
        self.contents[new] = self.contents[batch_id]
        self._move(new, BatchEvent.ADMITTED)
        self._import(new)

    def _retry(self, batch_id: str) -> str:
        return retry_batch(batch_id, "why", self._operations()).batch_id

    def _release(self, batch_id: str) -> str:
        key = an_instance(_UID, batch_id).key
        return release_instance(_UID, "why", key, self._operations()).batch_id

    def _move(self, batch_id: str, event: BatchEvent) -> None:
        batch = self._ports.batches.get(batch_id)
        assert batch is not None
        assert self._ports.batches.move(replace(batch, admitted_at=NOW), event)

    def _operations(self) -> Operations:
        return Operations(self._context(FakeHealthImaging()), self._journal)

    def _context(self, service: FakeHealthImaging) -> ImportContext:
        """What a step works with. Every object has the same checksum."""
        context = a_context(self.stores, service)
        checksum = an_instance(_UID).checksum
        files: Any = Port(
            replace(files_of(self.stores), checksum_of=lambda _: checksum), self.turns
        )
        port: Any = Port(service, self.turns)
        return replace(context, stores=self._ports, files=files, service=port)


def _until_done(step: Callable[[], T]) -> T:
    for _ in range(_TRIES):
        with suppress(ServiceUnavailable, ImportThrottled):
            return step()
    raise AssertionError("a step that does not end")


def defects(race: Race) -> Iterator[str]:
    """What is wrong in the end."""
    yield from race.turns.errors
    owners = Counter(row.batch_id for row in race.instances.rows.values())
    yield from (f"{each} has {count} rows" for each, count in owners.items() if count > 1)
    yield from (
        f"{each} was started and has no row" for each in sorted(race.imported - owners.keys())
    )
    imported = Counter(race.contents[each] for each in race.imported)
    yield from (
        f"{each} are imported {count} times" for each, count in imported.items() if count > 1
    )
    failed: set[Content] = set()
    for row in race.instances.rows.values():
        batch = race.stores.batches.get(row.batch_id)
        assert batch is not None
        if row.state is RECEIVED and batch.state in ENDED:
            yield f"{row.batch_id} has ended, and its row waits"
        if row.state is FAILED:
            failed.add(race.contents[row.batch_id])
            if (BUCKET, row.key) not in objects_of(race.stores).bodies:
                yield f"{row.batch_id} is FAILED, and its object is not there"
    for each in sorted({race.contents[each] for each in _SENT} - imported.keys() - failed):
        yield f"{each} are neither imported nor FAILED"


def first_finding(seeds: Iterable[int], old: Old | None = None) -> Finding | None:
    """Of the first race with a defect, what is wrong, and the calls that lead there.

    ``old`` is what became of the older batch, if that is to be the same in all races.
    """
    with unlogged():
        for seed in seeds:
            race = Race(seed, old)
            race.run()
            if found := [*defects(race)]:
                return Finding(f"{'; '.join(found)} (seed {seed})", tuple(race.turns.trace))
    return None
