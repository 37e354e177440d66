"""Every state of every record has a way out, and the page lists them all.

Each walk puts a record into a state, lets whoever should move it on have died, and runs nothing but
the schedule and what the page says an operator does.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from chalicelib import wiring
from chalicelib.errors import ObjectDenied
from chalicelib.events.event import EventType, an_event
from chalicelib.imports.aside import failed_key, move_all
from chalicelib.imports.deletion import image_set_noticed
from chalicelib.isolation import block
from chalicelib.operations.journal import Entry
from chalicelib.operations.release import release_instance
from chalicelib.operations.repeat import NothingToRepeat
from chalicelib.operations.retry import retry_batch, retry_subject
from chalicelib.stores.blocked import Blocked, Work, listed
from chalicelib.stores.memory import MemoryObjects
from chalicelib.stores.outbox import Due
from chalicelib.stores.studies import Arrival

from contract.batch_states import ENDED
from contract.keys import manifest_key
from contract.records import BatchState, InstanceState, JobStatus
from infra.deploy.templates import REPOSITORY
from tests.unit.chalicelib.builders import (
    BATCH,
    BUCKET,
    DATASTORE,
    NEWER_BATCH,
    NOW,
    a_context,
    files_of,
    outbox_of,
    remove,
)
from tests.unit.chalicelib.ways_world import JOB, MANIFEST, World

Walk = Callable[[World], None]
WHY = "the walk"
DEAD = "dead"
PAGE = (REPOSITORY / "docs" / "batches.md").read_text()
WALKS: dict[tuple[str, str], Walk] = {}


def walk(record: str, state: str) -> Callable[[Walk], Walk]:
    """A walk out of a record's state."""

    def kept(function: Walk) -> Walk:
        assert (record, state) not in WALKS
        WALKS[record, state] = function
        return function

    return kept


def all_states() -> set[tuple[str, str]]:
    """By the code."""
    locks = re.findall(r'DynamoLock\(.*?"(\w+)"\)', (REPOSITORY / WIRING).read_text())
    assert locks
    return {
        *(("batch", state) for state in BatchState),
        *(("job", status) for status in JobStatus),
        *(("instance", state) for state in InstanceState),
        *(("what is due", due) for due in Due),
        *(("lock", name) for name in locks),
        ("study", "due"),
        ("gate", "held"),
        ("request", "without its batch"),
        *(("blocked", work) for work in Work),
    }


WIRING = f"chalice_app/chalicelib/{wiring.__name__.rpartition('.')[2]}.py"


def documented() -> list[tuple[str, ...]]:
    rows = PAGE.partition("| record | state |")[2].partition("\n\n")[0].splitlines()[2:]
    return [tuple(cell.strip().replace("`", "") for cell in row.split("|")[1:-1]) for row in rows]


def test_every_state_has_a_walk_and_a_line_in_the_page() -> None:
    assert set(WALKS) == all_states()
    assert sorted(cells[:2] for cells in documented()) == sorted(all_states())
    assert all(all(cells) for cells in documented())


@pytest.mark.parametrize("state", sorted(all_states()), ids=" ".join)
def test_every_state_has_a_way_out(state: tuple[str, str]) -> None:
    WALKS[state](World())


@walk("batch", BatchState.OPEN)
def _open(world: World) -> None:
    """Its receiver was killed, and its manifest's event was lost."""
    remove(files_of(world.stores), [manifest_key(BATCH)])
    world.put(BatchState.OPEN, owner="task", lease_expires_at=NOW, manifest_key=None)
    world.run(10)
    assert world.batch().state is BatchState.IMPORTED


@walk("batch", BatchState.CLOSED)
def _closed(world: World) -> None:
    """The dispatcher died before it."""
    world.put(BatchState.CLOSED)
    world.run(1)
    assert world.batch().state is BatchState.IMPORTED


@walk("batch", BatchState.IMPORTING)
def _importing(world: World) -> None:
    """The dispatcher died before it started the execution; then five executions die."""
    world.deaths = 5
    world.run(180)
    assert world.batch().state is BatchState.IMPORTED
    assert (len(world.executions), world.batch().attempt) == (6, 5)


@walk("batch", BatchState.STALLED)
def _stalled(world: World) -> None:
    """By itself; or by an operator, while no execution lives, with a job of its and without."""
    world.put(BatchState.STALLED, attempt=1_000)
    world.run(61)
    assert world.batch().state is BatchState.IMPORTED

    with_job = World()
    with_job.put(BatchState.STALLED, job_id=JOB)
    with pytest.raises(NothingToRepeat, match="IMPORTED"):
        retry_batch(BATCH, WHY, with_job.operations)
    assert with_job.batch().state is BatchState.IMPORTED

    without = World()
    without.put(BatchState.STALLED)
    entry = retry_batch(BATCH, WHY, without.operations)
    assert without.batch().state is BatchState.FAILED
    assert without.stores.batches.get(entry.batch_id) is not None


@walk("batch", BatchState.IMPORTED)
def _imported(world: World) -> None:
    """It is told of, and its objects are deleted."""
    world.put(BatchState.IMPORTED, ended_at=NOW, job_id=JOB)
    world.rows(InstanceState.IMPORTED, JOB)
    world.run(20)
    world.now += timedelta(days=31)
    world.run(1)
    assert world.keys("instances/") == []
    assert not still_due(world)


@walk("batch", BatchState.PARTIAL)
@walk("batch", BatchState.FAILED)
def _failed(world: World) -> None:
    """An operator repeats it."""
    a_failed_batch(world)
    entry = retry_batch(BATCH, WHY, world.operations)
    assert world.batch().retried_as == entry.batch_id
    new = world.stores.batches.get(entry.batch_id)
    assert new is not None
    assert new.state is BatchState.CLOSED


@walk("batch", BatchState.QUARANTINED)
def _quarantined(world: World) -> None:
    """It is an end: nothing was stored in it, and nothing is to be done."""
    world.put(BatchState.QUARANTINED, ended_at=NOW)
    world.run(5)
    assert not still_due(world)
    assert BatchState.QUARANTINED in ENDED


@walk("job", JobStatus.SUBMITTED)
@walk("job", JobStatus.IN_PROGRESS)
def _running(world: World) -> None:
    """Its batch's execution died; or it died between the batch's end and the job's."""
    world.put(BatchState.IMPORTING, job_id=JOB)
    world.put_job(JobStatus.IN_PROGRESS)
    world.deaths = 1
    world.run(15)
    assert job_status(world) is JobStatus.COMPLETED

    between = World()
    between.put(BatchState.IMPORTED, ended_at=NOW, job_id=JOB)
    between.put_job(JobStatus.SUBMITTED)
    between.executions = [f"{BATCH}-0"]  # which died
    between.run(15)
    assert job_status(between) is JobStatus.COMPLETED


@walk("job", JobStatus.COMPLETED)
def _completed(world: World) -> None:
    """It is an end; the batch has its own by then, or gets it by its next execution."""
    world.put(BatchState.IMPORTING, job_id=JOB)
    world.put_job(JobStatus.COMPLETED)
    world.run(10)
    assert world.batch().state is BatchState.IMPORTED


@walk("job", JobStatus.FAILED)
def _job_failed(world: World) -> None:
    """HealthImaging has completed it after all: asked for a retry, it says so."""
    a_failed_batch(world)
    world.put(BatchState.FAILED, job_id=JOB)
    world.put_job(JobStatus.FAILED)
    with pytest.raises(NothingToRepeat):
        retry_batch(BATCH, WHY, world.operations)
    assert job_status(world) is JobStatus.COMPLETED
    assert world.batch().state is BatchState.IMPORTED


@walk("instance", InstanceState.RECEIVED)
@walk("instance", InstanceState.IMPORTING)
def _received(world: World) -> None:
    """With its batch."""
    world.put(BatchState.IMPORTING)
    world.deaths = 1
    world.run(15)
    assert world.states == {InstanceState.IMPORTED}


@walk("instance", InstanceState.IMPORTED)
def _instance_imported(world: World) -> None:
    """It is an end, until somebody deletes it in HealthImaging."""
    world.run(7)
    image_set = {row.image_set_id for row in world.stores.instances.by_study("1.2")}.pop()
    assert image_set is not None
    world.service.gone.add(image_set)
    detail = {"datastoreId": DATASTORE, "imageSetId": image_set}
    image_set_noticed(detail, a_context(world.stores, world.service, world.now))
    assert world.states == {InstanceState.DELETED}


@walk("instance", InstanceState.FAILED)
def _instance_failed(world: World) -> None:
    """An operator releases it."""
    a_failed_batch(world)
    entry = release_instance("1.2.3.1", WHY, None, world.operations)
    new = world.stores.batches.get(entry.batch_id)
    assert new is not None
    assert new.state is BatchState.CLOSED


@walk("instance", InstanceState.DELETED)
def _instance_deleted(world: World) -> None:
    """An operator releases it by force, while its object is there."""
    world.put(BatchState.IMPORTED, ended_at=NOW)
    world.rows(InstanceState.DELETED)
    entry = release_instance("1.2.3.1", WHY, None, world.operations, force=True)
    assert world.stores.batches.get(entry.batch_id) is not None


@walk("what is due", Due.ANNOUNCE)
@walk("lock", "announcer")
def _announce(world: World) -> None:
    """The announcer died with the lock."""
    world.put(BatchState.IMPORTED, ended_at=NOW)
    world.announcer_lock.take(DEAD, NOW, NOW + timedelta(seconds=150))
    world.run(2)
    assert outbox_of(world.stores).is_due(BATCH, Due.ANNOUNCE)
    world.run(3)
    assert outbox_of(world.stores).is_due(BATCH, Due.EXPIRE)
    assert world.bus.sent


@walk("what is due", Due.EXPIRE)
def _expire(world: World) -> None:
    _imported(world)


@walk("what is due", Due.EVENT)
def _event(world: World) -> None:
    key = outbox_of(world.stores).keep(an_event(EventType.STUDY_QUIET, "s", NOW))
    world.run(1)
    assert not outbox_of(world.stores).is_due(key, Due.EVENT)
    assert world.bus.sent


@walk("study", "due")
def _study(world: World) -> None:
    """A batch of it is STALLED, which is waited for."""
    world.put(BatchState.STALLED, attempt=9)
    world.stores.studies.join("1.2", Arrival(BATCH, "CT1", NOW))
    world.stores.studies.look("1.2", NOW)
    world.run(90)
    study = world.stores.studies.get("1.2")
    assert study is not None
    assert study.due_at is None


@walk("lock", "dropbox")
def _dropbox(world: World) -> None:
    """The collector died with the lock."""
    world.dropbox_lock.take(DEAD, NOW, NOW + timedelta(seconds=150))
    world.stores.objects.bodies[BUCKET, "dropbox/a"] = b"x" * 200  # type: ignore[attr-defined]
    world.run(2)
    assert world.keys("dropbox/")
    world.run(3)
    assert not world.keys("dropbox/")


@walk("gate", "held")
def _gate(world: World) -> None:
    """The dispatcher died at the gate."""
    world.put(BatchState.CLOSED)
    world.gate.enter(DEAD, NOW, NOW + timedelta(seconds=60))
    world.run(1)
    assert world.batch().state is BatchState.CLOSED
    world.run(2)
    assert world.batch().state is BatchState.IMPORTED


@walk("request", "without its batch")
def _request(world: World) -> None:
    """The command was interrupted: asked again, it goes on."""
    a_failed_batch(world)
    world.journal.begin(Entry(retry_subject(BATCH), NEWER_BATCH, WHY, NOW))
    assert retry_batch(BATCH, WHY, world.operations).batch_id == NEWER_BATCH
    assert world.stores.batches.get(NEWER_BATCH) is not None


def blocked(world: World) -> list[Blocked]:
    return list(listed(world.stores.blocked, Work))


def blocked_by(world: World, key: str, work: Work) -> None:
    """An object is denied for an hour, and then allowed."""
    objects = world.stores.objects
    assert isinstance(objects, MemoryObjects)
    objects.denied.add((BUCKET, key))
    world.run(60)
    assert [record.work for record in blocked(world)] == [work]
    objects.denied.clear()
    world.run(61)
    assert blocked(world) == []


@walk("blocked", Work.DROPBOX)
def _dropbox_blocked(world: World) -> None:
    objects = world.stores.objects
    assert isinstance(objects, MemoryObjects)
    objects.bodies[BUCKET, "dropbox/a"] = b"x" * 200
    blocked_by(world, "dropbox/a", Work.DROPBOX)
    assert not world.keys("dropbox/")


@walk("blocked", Work.RECOVERY)
def _recovery_blocked(world: World) -> None:
    world.put(BatchState.OPEN, owner="task", lease_expires_at=NOW, manifest_key=None)
    blocked_by(world, manifest_key(BATCH), Work.RECOVERY)
    assert world.batch().state is BatchState.IMPORTED


@walk("blocked", Work.INTAKE)
def _intake_blocked(world: World) -> None:
    """The event came while the manifest was denied, and became a dead letter."""
    world.put(BatchState.OPEN, owner="task", lease_expires_at=NOW + timedelta(days=1))
    error = ObjectDenied("GetObject: AccessDenied")
    block(Work.INTAKE, BATCH, error, world.stores.blocked, outbox_of(world.stores), NOW)
    blocked_by(world, manifest_key(BATCH), Work.INTAKE)
    assert world.batch().state is BatchState.IMPORTED


@walk("blocked", Work.ANNOUNCEMENT)
def _announcement_blocked(world: World) -> None:
    """The code has met something that it does not know."""
    world.put(BatchState.IMPORTED, ended_at=NOW)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("chalicelib.events.announce.batch_events", {}.__getitem__)
        world.run(60)
        assert [record.work for record in blocked(world)] == [Work.ANNOUNCEMENT]
    world.run(61)
    assert blocked(world) == []
    assert world.bus.sent


@walk("blocked", Work.EXPIRY)
def _expiry_blocked(world: World) -> None:
    """Of two objects one is denied for a day."""
    world.put(BatchState.IMPORTED, ended_at=NOW, job_id=JOB)
    world.rows(InstanceState.IMPORTED, JOB)
    world.run(20)
    world.now += timedelta(days=31)
    objects, denied = world.stores.objects, (BUCKET, MANIFEST.instances[0].key)
    assert isinstance(objects, MemoryObjects)
    objects.denied.add(denied)
    world.run(60)
    assert world.keys("instances/") == [denied[1]]
    assert [record.work for record in blocked(world)] == [Work.EXPIRY]
    objects.denied.clear()
    world.now += timedelta(days=1)
    world.run(1)
    assert world.keys("instances/") == []
    assert blocked(world) == []


def a_failed_batch(world: World) -> None:
    """Its instances were put aside."""
    world.put(BatchState.FAILED, ended_at=NOW)
    world.rows(InstanceState.FAILED)
    move_all(files_of(world.stores), [each.key for each in MANIFEST.instances], failed_key, "why")
    for row in list(world.stores.instances.by_study("1.2")):
        rows = world.stores.instances.rows  # type: ignore[attr-defined]
        rows[row.row_key] = replace(row, key=failed_key(row.key))


def still_due(world: World) -> list[str]:
    """What is due of the batch."""
    outbox = outbox_of(world.stores)
    return [due for due in Due if outbox.is_due(BATCH, due)]


def job_status(world: World) -> JobStatus:
    """The job's."""
    job = world.stores.jobs.get(JOB)
    assert job is not None
    return job.job_status
