"""What events say, when a study is quiet, and what is sent again."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from chalicelib.deadline import Deadline
from chalicelib.errors import ServiceUnavailable
from chalicelib.events.announce import Announcer, announce
from chalicelib.events.bus import ENTRIES_PER_CALL, EventBridge
from chalicelib.events.event import SOURCE, Event, EventType, an_event
from chalicelib.events.facts import (
    MAX_LISTED,
    batch_events,
    dropped_event,
    quarantine_events,
    study_event,
)
from chalicelib.events.quiet import LookAgain, Quiet, decide
from chalicelib.events.schemas import SCHEMAS
from chalicelib.imports.aside import failed_key, unlisted_key
from chalicelib.imports.execution import Execution
from chalicelib.imports.rows import import_request, new_job
from chalicelib.stores.blocked import Work
from chalicelib.stores.lock import MemoryLock
from chalicelib.stores.memory import MemoryBatches, MemoryObjects
from chalicelib.stores.memory_studies import MemoryStudies
from chalicelib.stores.outbox import Due, event_key
from chalicelib.stores.studies import Arrival
from hypothesis import given
from hypothesis import strategies as st

from contract.batch_states import ENDED, BatchEvent
from contract.keys import batch_prefix, manifest_key, quarantine_key
from contract.records import BatchRecord, BatchState, Counts, JobStatus
from tests.pipeline.chalicelib.schema_check import complaints
from tests.unit.chalicelib.builders import (
    BATCH,
    BUCKET,
    DATASTORE,
    EXECUTION,
    NEWER_BATCH,
    NOW,
    SETTINGS,
    a_batch,
    a_manifest,
    an_instance,
    files_of,
    keep_batch,
    memory_stores,
    outbox_of,
)

QUIET = timedelta(minutes=15)
# 64 characters, as the longest UID has.
LONG_UID = f"1.{'2' * 62}"


def strict(kind: EventType) -> dict[str, Any]:
    """Consumers must bear more members within a version; our own events have none."""
    return SCHEMAS[kind] | {"additionalProperties": False}


def wrong_with(event: Event) -> list[str]:
    return list(complaints(json.loads(json.dumps(event.detail)), strict(event.type), {}))


def a_job(batch_id: str = BATCH, image_sets: int = 1) -> Any:
    manifest = a_manifest(2, batch_id=batch_id)
    execution = Execution(batch_id, BUCKET, manifest_key(batch_id))
    request = import_request(manifest, DATASTORE, BUCKET, SETTINGS)
    job = new_job(manifest, execution, request, "job1", NOW)
    ids = tuple(f"{number:032x}" for number in range(image_sets))
    return replace(job, job_status=JobStatus.COMPLETED, image_set_ids=ids)


@pytest.mark.parametrize(
    ("state", "kinds"),
    [
        (BatchState.IMPORTED, [EventType.BATCH_IMPORTED]),
        (BatchState.PARTIAL, [EventType.BATCH_IMPORTED, EventType.IMPORT_FAILED]),
        (BatchState.FAILED, [EventType.IMPORT_FAILED]),
    ],
)
def test_a_batch_that_ended_is_told_of_as_its_state_has_it(
    state: BatchState, kinds: list[EventType]
) -> None:
    batch = replace(
        a_batch(state), counts=Counts(3, 2, 1, 1, 1, 1), job_id="job1", retry_of=NEWER_BATCH
    )
    events = batch_events(batch, a_job(), {"1.2"}, NOW)
    assert [event.type for event in events] == kinds
    assert [wrong_with(event) for event in events] == [[]] * len(kinds)
    without_job = batch_events(replace(batch, job_id=None, retry_of=None), None, (), NOW)
    assert [wrong_with(event) for event in without_job] == [[]] * len(kinds)
    assert events[0].detail["importedCount"] == 2
    assert events[0].detail["studyInstanceUIDs"] == ["1.2"]


def test_an_end_that_corrects_another_is_a_fact_of_its_own() -> None:
    batch = replace(a_batch(BatchState.PARTIAL), counts=Counts(2, 1, 1))
    corrected = replace(batch, state=BatchState.IMPORTED, corrected_at=NOW)
    (first, failed), (later,) = (
        batch_events(each, a_job(), {"1.2"}, NOW) for each in (batch, corrected)
    )
    assert len({each.event_id for each in (first, failed, later)}) == 3
    assert (first.detail.get("corrected"), later.detail["corrected"]) == (None, True)
    assert wrong_with(later) == []


def test_what_the_records_quote_of_a_header_is_in_no_event() -> None:
    batch = replace(a_batch(BatchState.FAILED), message="HealthImaging: DOE^JOHN is no date")
    told = json.dumps([event.detail for event in batch_events(batch, None, {"1.2"}, NOW)])
    assert "DOE" not in told


def test_an_events_id_follows_from_its_fact_alone() -> None:
    first, again = (study_event("1.2", {BATCH}, NOW) for _ in range(2))
    later = study_event("1.2", {BATCH}, NOW + timedelta(seconds=1))
    other = study_event("1.3", {BATCH}, NOW)
    assert first.event_id == again.event_id
    assert len({each.event_id for each in (first, later, other)}) == 3


def test_put_aside_instances_are_named_and_strange_keys_are_not() -> None:
    key = an_instance("1.2.3.1").key
    strange = quarantine_key("unlisted", "DOE JOHN.dcm")
    events = quarantine_events([failed_key(key), unlisted_key(key), strange], NOW)
    assert [event.detail["reason"] for event in events] == ["import-failed", "unlisted"]
    assert {event.detail["sopInstanceUID"] for event in events} == {"1.2.3.1"}
    assert [wrong_with(event) for event in events] == [[], []]
    dropped = dropped_event(quarantine_key("not-part10", "0" * 64), "not-part10", NOW)
    assert wrong_with(dropped) == []
    assert len({event.event_id for event in (*events, dropped)}) == 3


def test_ten_of_the_largest_events_fit_into_a_request() -> None:
    studies = [f"{LONG_UID[:-4]}{number:04}" for number in range(5_000)]
    batch = replace(
        a_batch(BatchState.PARTIAL), calling_ae_title="A" * 16, job_id="j" * 32,
        retry_of=BATCH, datastore_id="d" * 32,
    )  # fmt: skip
    ids = [f"20261123T093000Z-{number:016x}" for number in range(1_000)]
    events = [
        *batch_events(batch, a_job(image_sets=5_000), studies, NOW),
        study_event(LONG_UID, ids, NOW),
    ]
    assert all(wrong_with(event) == [] for event in events)
    assert events[0].detail["studyCount"] == 5_000
    assert len(events[0].detail["studyInstanceUIDs"]) == MAX_LISTED
    largest = max(len(json.dumps(event.detail)) for event in events)
    assert ENTRIES_PER_CALL * (largest + 200) < 256 * 1024


def test_a_detail_with_a_member_too_many_or_too_few_is_no_event_of_ours() -> None:
    detail = study_event("1.2", {BATCH}, NOW).detail
    schema = strict(EventType.STUDY_QUIET)
    for name in detail:
        rest = {key: value for key, value in detail.items() if key != name}
        assert list(complaints(rest, schema, {})) == [f"$ lacks {name}"]
    assert list(complaints({**detail, "patientName": "x"}, schema, {}))


def ended(minutes: float, state: BatchState = BatchState.IMPORTED) -> BatchRecord:
    return replace(a_batch(state), ended_at=NOW + timedelta(minutes=minutes))


@pytest.mark.parametrize("state", sorted(set(BatchState) - ENDED))
def test_a_study_with_a_batch_under_way_waits_for_its_end(state: BatchState) -> None:
    later = NOW + timedelta(days=1)
    assert decide([ended(0), a_batch(state)], later, QUIET) == LookAgain()
    assert decide([ended(0), None], later, QUIET) == LookAgain()
    assert decide([], later, QUIET) == LookAgain()


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0, 200))
def test_a_study_is_quiet_when_its_last_end_is_long_ago_and_not_before(
    ends: list[float], minutes: float
) -> None:
    now = NOW + timedelta(minutes=minutes)
    last = NOW + timedelta(minutes=max(ends))
    found = decide([ended(each) for each in ends], now, QUIET)
    assert found == (Quiet(last) if last + QUIET <= now else LookAgain(last + QUIET))


class Bus:
    """A Bus that keeps what it is sent; ``fails`` says which it does not take."""

    def __init__(self) -> None:
        self.sent: list[Event] = []
        self.fails: set[EventType] = set()

    def send(self, events: Sequence[Event]) -> None:
        if self.fails & {event.type for event in events}:
            raise ServiceUnavailable("EventBridge failed")
        self.sent += events

    @property
    def kinds(self) -> list[EventType]:
        return [event.type for event in self.sent]


class World:
    """A batch that has ended, and an announcer at a time that the test says."""

    def __init__(self, event: BatchEvent = BatchEvent.IMPORTED) -> None:
        self.stores = memory_stores()
        self.bus, self.lock = Bus(), MemoryLock()
        self.now: datetime = NOW
        self.started: set[tuple[str, int]] = set()
        self.keep(BATCH, event)

    def keep(self, batch_id: str, event: BatchEvent | None) -> None:
        keep_batch(self.stores, a_manifest(2, batch_id=batch_id))
        self.stores.studies.join("1.2", Arrival(batch_id, "CT1", NOW))
        if event is not None:
            self.end(batch_id, event)

    def end(self, batch_id: str, event: BatchEvent) -> None:
        batch = replace(a_batch(batch_id=batch_id), ended_at=self.now)
        assert self.stores.batches.move(batch, event)

    def announce(self, minutes: float = 0) -> list[EventType]:
        """What is told after so many minutes more."""
        self.now += timedelta(minutes=minutes)
        before = len(self.bus.sent)
        assert announce(
            Announcer(
                self.stores, outbox_of(self.stores), files_of(self.stores), self.bus, self.start,
                self.lock, QUIET, lambda: self.now, "me",
            )
        )  # fmt: skip
        return self.bus.kinds[before:]

    def start(self, batch_id: str, attempt: int) -> bool:
        """An execution dies at once; its name is taken from then on."""
        is_new = (batch_id, attempt) not in self.started
        self.started.add((batch_id, attempt))
        return is_new

    def put(self, key: str) -> None:
        assert isinstance(self.stores.objects, MemoryObjects)
        self.stores.objects.bodies[BUCKET, key] = b"x"


def test_each_fact_is_told_once() -> None:
    world = World(BatchEvent.PARTLY_IMPORTED)
    world.put(failed_key(an_instance("1.2.3.2").key))
    told = world.announce()
    batch = [EventType.BATCH_IMPORTED, EventType.IMPORT_FAILED]
    assert told == [*batch, EventType.INSTANCE_QUARANTINED]
    assert world.announce(14) == []
    assert world.announce(1) == [EventType.STUDY_QUIET]
    assert world.announce(60) == []
    assert all(wrong_with(event) == [] for event in world.bus.sent)


def test_a_batch_without_a_failure_is_kept_for_its_expiry_and_a_failed_one_is_not() -> None:
    for event, expected in ((BatchEvent.IMPORTED, [BATCH]), (BatchEvent.FAILED, [])):
        world = World(event)
        world.announce()
        assert list(outbox_of(world.stores).due(Due.EXPIRE, NOW)) == expected


def test_a_study_is_told_of_once_for_each_quiet_period() -> None:
    world = World()
    world.announce()
    world.keep(NEWER_BATCH, None)
    assert world.announce(20) == []  # the newer one waits
    assert world.announce(600) == []
    world.end(NEWER_BATCH, BatchEvent.FAILED)
    assert world.announce() == [EventType.IMPORT_FAILED]
    assert world.announce(16) == [EventType.STUDY_QUIET]
    assert world.bus.sent[-1].detail["batchCount"] == 2
    assert world.announce(16) == []


def test_a_study_whose_next_batch_is_still_being_received_is_not_quiet() -> None:
    world = World()
    world.announce()
    assert isinstance(world.stores.batches, MemoryBatches)
    world.stores.batches.rows[NEWER_BATCH] = a_batch(BatchState.OPEN, NEWER_BATCH)
    world.put(f"{batch_prefix(NEWER_BATCH)}1.2/1.2.3/1.2.3.9.dcm")
    assert world.announce(15) == []
    del world.stores.batches.rows[NEWER_BATCH]  # its receiver had nothing acknowledged
    assert world.announce(14) == []
    assert world.announce(1) == [EventType.STUDY_QUIET]


def test_what_the_bus_does_not_take_is_sent_later_and_holds_nobody_up() -> None:
    world = World()
    world.bus.fails = {EventType.BATCH_IMPORTED}
    world.keep(NEWER_BATCH, BatchEvent.FAILED)
    with pytest.raises(ServiceUnavailable, match="1 subjects were put off"):
        world.announce()
    assert world.bus.kinds == [EventType.IMPORT_FAILED]
    world.bus.fails = set()
    assert world.announce(1) == [EventType.BATCH_IMPORTED]


def test_a_study_whose_event_is_not_taken_is_still_quiet_later() -> None:
    world = World()
    world.announce()
    world.bus.fails = {EventType.STUDY_QUIET}
    with pytest.raises(ServiceUnavailable):
        world.announce(15)
    world.bus.fails = set()
    assert world.announce(1) == [EventType.STUDY_QUIET]


def test_a_batch_is_told_of_when_its_jobs_record_has_its_end() -> None:
    """Its execution died between the two: others are started until one has finished the job."""
    world = World()
    batch = world.stores.batches.get(BATCH)
    assert isinstance(world.stores.batches, MemoryBatches)
    assert batch is not None
    world.stores.batches.rows[BATCH] = replace(batch, job_id="job1", attempt=3)
    running = replace(a_job(), job_status=JobStatus.IN_PROGRESS)
    world.stores.jobs.create(running)
    world.started = {(BATCH, attempt) for attempt in range(4)}
    assert world.announce() == []
    assert (BATCH, 4) not in world.started
    for minutes in (11, 2, 4):
        assert world.announce(minutes) == []
    assert {(BATCH, 4), (BATCH, 5), (BATCH, 6)} <= world.started
    assert world.stores.blocked.get(Work.ANNOUNCEMENT, BATCH) is not None
    world.stores.jobs.put(replace(running, job_status=JobStatus.COMPLETED))
    assert world.announce(60) == [EventType.BATCH_IMPORTED, EventType.STUDY_QUIET]
    assert world.stores.blocked.get(Work.ANNOUNCEMENT, BATCH) is None


@pytest.mark.parametrize("spoilt", ["damaged", "denied"])
def test_a_batch_whose_manifest_is_unreadable_is_told_of_with_its_objects_studies(
    spoilt: str,
) -> None:
    world = World(BatchEvent.FAILED)
    objects = world.stores.objects
    assert isinstance(objects, MemoryObjects)
    if spoilt == "damaged":
        objects.bodies[BUCKET, EXECUTION.manifest_key] = b"{"
    else:
        objects.denied.add((BUCKET, EXECUTION.manifest_key))
    assert world.announce() == [EventType.IMPORT_FAILED]
    assert world.bus.sent[0].detail["studyInstanceUIDs"] == ["1.2"]


def test_an_index_that_is_late_makes_nobody_be_told_again() -> None:
    world = World()
    outbox = outbox_of(world.stores)
    world.announce()
    world.announce(15)
    told = len(world.bus.sent)
    gone = {
        Due.ANNOUNCE: [BATCH, "unknown"],
        Due.EVENT: [event_key(world.bus.sent[-1])],
    }
    with pytest.MonkeyPatch.context() as late:
        late.setattr(outbox, "due", lambda what, _: iter(gone[what]))
        late.setattr(MemoryStudies, "due", lambda *_: iter(["1.2", "1.9"]))
        world.announce()
    assert len(world.bus.sent) == told


def test_a_study_that_goes_on_while_it_is_looked_at_is_not_told_of() -> None:
    world = World()
    world.announce()
    world.now += QUIET
    batches = world.stores.batches
    read = batches.get

    def read_while_one_closes(batch_id: str) -> BatchRecord | None:
        world.stores.studies.join("1.2", Arrival(NEWER_BATCH, "CT1", NOW))
        return read(batch_id)

    with pytest.MonkeyPatch.context() as meanwhile:
        meanwhile.setattr(batches, "get", read_while_one_closes)
        assert world.announce() == []
    assert world.announce() == []


def test_two_invocations_do_not_announce_beside_each_other() -> None:
    world = World()
    assert world.lock.take("another", NOW, NOW + timedelta(minutes=1))
    announcer = Announcer(
        world.stores, outbox_of(world.stores), files_of(world.stores), world.bus, world.start,
        world.lock, QUIET, lambda: NOW, "me",
    )  # fmt: skip
    assert not announce(announcer)
    assert world.bus.sent == []


def test_announcing_stops_in_time_and_goes_on_with_the_next_call() -> None:
    world = World()
    world.keep(NEWER_BATCH, BatchEvent.FAILED)
    times = iter([NOW, NOW, NOW + timedelta(seconds=61)])
    announcer = Announcer(
        world.stores, outbox_of(world.stores), files_of(world.stores), world.bus, world.start,
        world.lock, QUIET, lambda: next(times), "me",
    )  # fmt: skip
    announce(announcer)
    assert len(world.bus.sent) == 1
    world.announce()
    assert sorted(world.bus.kinds) == [EventType.BATCH_IMPORTED, EventType.IMPORT_FAILED]


def test_announcing_ends_before_its_invocation_does() -> None:
    world = World()
    world.keep(NEWER_BATCH, BatchEvent.FAILED)
    announcer = Announcer(
        world.stores, outbox_of(world.stores), files_of(world.stores), world.bus, world.start,
        world.lock, QUIET, lambda: NOW, "me", Deadline(NOW + timedelta(seconds=50)),
    )  # fmt: skip
    assert announce(announcer)
    assert world.bus.sent == []
    later = replace(announcer, deadline=Deadline(NOW + timedelta(seconds=118)))
    assert announce(later)
    assert len(world.bus.sent) == 2


class Client:
    """EventBridge: each call's entries, and which of them it refuses the first times."""

    def __init__(self, refusals: int, every: int = 2) -> None:
        self.calls: list[list[Any]] = []
        self.refusals, self.every = refusals, every

    def put_events(self, *, Entries: Any) -> Any:  # noqa: N803
        self.calls.append(list(Entries))
        refused = len(self.calls) <= self.refusals
        answers = [
            {"ErrorCode": "ThrottlingException"}
            if refused and number % self.every == self.every - 1
            else {"EventId": "x"}
            for number in range(len(Entries))
        ]
        return {"FailedEntryCount": sum("ErrorCode" in each for each in answers),
                "Entries": answers}  # fmt: skip


def events(count: int) -> list[Event]:
    return [an_event(EventType.STUDY_QUIET, str(number), NOW) for number in range(count)]


@pytest.fixture
def _no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chalicelib.events.bus._FIRST_DELAY_SECONDS", 0)


def test_at_most_ten_events_go_in_a_call() -> None:
    client = Client(refusals=0)
    EventBridge(client, "bus").send(events(23))
    assert sorted(len(call) for call in client.calls) == [3, 10, 10]
    entry = client.calls[0][0]
    assert (entry["Source"], entry["EventBusName"]) == (SOURCE, "bus")
    assert json.loads(entry["Detail"])["version"] == 1
    EventBridge(client, "bus").send([])
    assert len(client.calls) == 3


@pytest.mark.usefixtures("_no_delay")
def test_only_the_entries_that_failed_are_sent_again() -> None:
    client = Client(refusals=2)
    EventBridge(client, "bus").send(events(8))
    assert [len(call) for call in client.calls] == [8, 4, 2]
    last = [entry["Detail"] for entry in client.calls[-1]]
    assert [json.loads(each)["eventId"] for each in last] == [
        events(8)[number].event_id for number in (3, 7)
    ]


@pytest.mark.usefixtures("_no_delay")
def test_entries_that_never_succeed_are_an_error_that_names_the_codes() -> None:
    client = Client(refusals=100, every=1)
    with pytest.raises(ServiceUnavailable, match="ThrottlingException"):
        EventBridge(client, "bus").send(events(2))
