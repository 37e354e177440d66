"""The lease protocol as a world of small steps, and an explorer that tries them in every order.

A world holds workers, the batch table, the bucket, recovery, the importer and what the sender was
told. Each step is one effect that others can see, or one decision; between any two, a process may
stop for as long as it likes, and one that never goes on is one that died. The decisions are the
product's own: ``store_scp.leases``, ``store_scp.batches`` and ``contract.batch_states``. ``Rules``
plants errors for the explorer to find; without them, every world within reach has to be sound.

A worker measures its leases by a steady clock, which misses the ticks in which its machine stops.
It hears of them from the Date of the next answer, of S3 or of the table
(``store_scp.server_time``).

What the model leaves out: S3 and DynamoDB are consistent, an answer's Date is exact and believed at
once (``clock_behind`` shows what happens where AWS's time is measured too early), and nothing lands
between the importer's sweep and HealthImaging's own listing, seconds later (``late_after_sweep``
shows what that would do).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial

from store_scp.batches import BatchBook
from store_scp.instance import Instance
from store_scp.leases import Lease, Standing

from contract.batch_states import BatchEvent, after
from contract.checksums import Checksum
from contract.records import BatchState
from tests.model.pipeline import Step, import_steps, recovery_steps
from tests.model.world import EPOCH, LEASE, STILL, Record, Rules, Task, Worker, World
from tests.unit.store_scp import builders

BYTES = Checksum.of(b"pixels")


@cache
def instance(sop: str) -> Instance:
    return builders.instance(sop)


def steps(world: World, rules: Rules) -> Iterator[tuple[str, Step]]:
    """What can happen next, by name; a step finds its actors in the world it is given."""
    if world.now < world.scope.ticks:
        yield "tick", tick
    for number, worker in enumerate(world.workers):
        if world.now < world.scope.ticks and worker.missed < world.scope.stops:
            yield f"{worker.name} is stopped", partial(_of_worker, number, stop)
        for name, step in worker_steps(world, worker, rules):
            yield f"{worker.name} {name}", partial(_of_worker, number, step)
    for each in sorted(world.in_flight):
        yield f"S3 stores {each[1]} in {each[0][-2:]}", partial(land, each)
    yield from recovery_steps(world, rules)
    yield from import_steps(world, rules)


WorkerStep = Callable[[World, Worker], None]


def _of_worker(number: int, step: WorkerStep, world: World) -> None:
    step(world, world.workers[number])


def tick(world: World) -> None:
    world.now += 1


def stop(world: World, worker: Worker) -> None:
    """A tick, in which the worker's machine stands still, and its steady clock with it."""
    world.now += 1
    worker.missed += 1


def land(put: tuple[str, str], world: World) -> None:
    world.in_flight.remove(put)
    world.objects.add(put)
    for worker in world.workers if world.scope.stops else ():
        task = worker.task
        if task is not None and task.sent and (task.placement.batch_id, task.sop) == put:
            worker.task = replace(task, landed=world.now)


# A worker's clocks.


def steady(world: World, worker: Worker) -> int:
    return world.now - worker.missed


def latest(world: World, worker: Worker, rules: Rules) -> int:
    """What the worker takes for AWS's time."""
    return steady(world, worker) + worker.known - rules.clock_behind


def hear(date: int, world: World, worker: Worker) -> None:
    """An answer comes: what was missed before its Date is known, unless it was long on its way."""
    worker.known = max(worker.known, date - steady(world, worker))


def standing(world: World, worker: Worker, batch_id: str, rules: Rules) -> Standing:
    """Whose the batch is now."""
    return _standing(worker, batch_id, steady(world, worker), latest(world, worker, rules), rules)


def _standing(worker: Worker, batch_id: str, moment: int, at_aws: float, rules: Rules) -> Standing:
    if rules.steady_alone:
        at_aws = -math.inf
    return worker.leases[batch_id].standing(moment, at_aws)


# A worker.


def worker_steps(world: World, worker: Worker, rules: Rules) -> Iterator[tuple[str, WorkerStep]]:
    yield from lease_steps(world, worker, rules)
    task = worker.task
    if task is None:
        if world.sends < world.scope.sends:
            # No instance is special: each is first sent after those before it.
            for number in range(min(world.scope.instances, world.sends + 1)):
                sop = f"1.{number + 1}"
                if sop not in world.acknowledged:
                    yield f"receives {sop}", partial(receive, sop)
        if worker.leases.keys() - worker.to_write.keys() - worker.writing.keys():
            yield "closes its batches", close_batches
    else:
        yield from task_steps(world, worker, task, rules)
    for batch_id in worker.to_write:
        if standing(world, worker, batch_id, rules) is not Standing.UNKNOWN:
            yield (
                f"checks for the manifest of {batch_id[-2:]}",
                partial(check_manifest, rules, batch_id),
            )
    for batch_id in worker.writing:
        yield f"writes the manifest of {batch_id[-2:]}", partial(write_manifest, batch_id)


def task_steps(
    world: World, worker: Worker, task: Task, rules: Rules
) -> Iterator[tuple[str, WorkerStep]]:
    batch_id = task.placement.batch_id
    known = standing(world, worker, batch_id, rules) is not Standing.UNKNOWN
    if task.stored:
        yield "acknowledges", acknowledge
        yield "acknowledges to a peer that is gone", end_task
    elif task.arrived is not None:
        then = _standing(worker, batch_id, task.arrived, task.latest, rules)
        if rules.acknowledge_unchecked or then is not Standing.UNKNOWN:
            yield "judges the lease", partial(judge, rules)
        else:
            yield "refuses", refuse
    elif task.sent:
        if (batch_id, task.sop) in world.objects:
            yield "has S3's answer", partial(arrive, rules)
        yield "waits no longer for S3", refuse
    elif known:
        yield "checks before the PUT", partial(check, rules)


def lease_steps(world: World, worker: Worker, rules: Rules) -> Iterator[tuple[str, WorkerStep]]:
    for batch_id, lease in worker.leases.items():
        if batch_id in worker.asking:
            yield f"has its lease of {batch_id[-2:]}", partial(answer, rules, batch_id)
            if world.silences < world.scope.silences:
                yield f"has no answer for {batch_id[-2:]}", partial(no_answer, batch_id)
        elif not lease.lost and is_due(world, worker, batch_id, rules):
            if world.scope.slow_table:
                yield f"asks for the lease of {batch_id[-2:]}", partial(ask, batch_id)
            else:
                yield f"renews its lease of {batch_id[-2:]}", partial(renew, rules, batch_id)


def is_due(world: World, worker: Worker, batch_id: str, rules: Rules) -> bool:
    """Whether the lease is to be renewed; who finds it over hurries the renewal."""
    now, lease = steady(world, worker), worker.leases[batch_id]
    if standing(world, worker, batch_id, rules) is Standing.UNKNOWN and lease.failure is None:
        lease = lease.hurried(now)
    return lease.renews_at <= now


def receive(sop: str, world: World, worker: Worker) -> None:
    world.sends += 1
    found = worker.book(BatchBook.candidates, instance(sop), 1, BYTES)
    if any(worker.book(BatchBook.repeated, instance(sop), known, STILL) for known in found):
        world.acknowledged.add(sop)
    else:
        place(sop, worker)


def place(sop: str, worker: Worker) -> None:
    placement = worker.book(BatchBook.place, instance(sop), STILL, 1)
    worker.leases.setdefault(placement.batch_id, Lease(LEASE))
    worker.task = Task(sop, placement)


def ask(batch_id: str, world: World, worker: Worker) -> None:
    worker.asking[batch_id] = steady(world, worker)


def renew(rules: Rules, batch_id: str, world: World, worker: Worker) -> None:
    ask(batch_id, world, worker)
    answer(rules, batch_id, world, worker)


def answer(rules: Rules, batch_id: str, world: World, worker: Worker) -> None:
    asked_at = worker.asking.pop(batch_id)
    # What the worker knew when it asked: to know more by now would only be later.
    expires_at = asked_at + worker.known + LEASE - rules.clock_behind
    hear(world.now, world, worker)
    record = world.records.get(batch_id)
    lease = worker.leases[batch_id]
    ours = record is None or record.owner == worker.name or rules.renew_anyones
    if record is None:
        opened = after(None, BatchEvent.OPENED)
        world.records[batch_id] = Record(opened, worker.name, expires_at)
    elif ours and record.state is BatchState.OPEN:
        world.records[batch_id] = replace(record, owner=worker.name, expires_at=expires_at)
    else:
        worker.leases[batch_id] = lease.denied()
        worker.book(BatchBook.lost, batch_id)
        worker.to_write.pop(batch_id, None)
        return
    now, at_aws = steady(world, worker), float(latest(world, worker, rules))
    if rules.steady_alone:
        at_aws = -math.inf
    since = now if rules.lease_from_answer else asked_at
    worker.leases[batch_id] = lease.granted(since, expires_at, now, at_aws)


def no_answer(batch_id: str, world: World, worker: Worker) -> None:
    world.silences += 1
    del worker.asking[batch_id]
    worker.leases[batch_id] = worker.leases[batch_id].unanswered(
        steady(world, worker), "lease: Timeout"
    )


def check(rules: Rules, world: World, worker: Worker) -> None:
    """Decide to PUT; whether and when S3 stores it is S3's."""
    assert worker.task is not None
    put = worker.task.placement.batch_id, worker.task.sop
    if standing(world, worker, put[0], rules) is Standing.OURS:
        worker.task = replace(worker.task, sent=True)
        world.in_flight.add(put)
    else:
        put_elsewhere(worker, worker.task)


def arrive(rules: Rules, world: World, worker: Worker) -> None:
    assert worker.task is not None
    hear(worker.task.landed, world, worker)
    now, at_aws = steady(world, worker), latest(world, worker, rules)
    worker.task = replace(worker.task, arrived=now, latest=at_aws)


def judge(rules: Rules, world: World, worker: Worker) -> None:
    task = worker.task
    assert task is not None
    assert task.arrived is not None
    then = _standing(worker, task.placement.batch_id, task.arrived, task.latest, rules)
    if then is Standing.OURS or rules.acknowledge_unchecked:
        worker.book(BatchBook.stored, task.placement, STILL, 1, BYTES)
        worker.task = replace(task, stored=True)
        return
    if rules.delete_stray:
        world.objects.discard((task.placement.batch_id, task.sop))
    put_elsewhere(worker, task)


def put_elsewhere(worker: Worker, task: Task) -> None:
    worker.book(BatchBook.failed, task.placement, STILL)
    place(task.sop, worker)


def refuse(world: World, worker: Worker) -> None:
    assert worker.task is not None
    worker.book(BatchBook.failed, worker.task.placement, STILL)
    worker.task = None


def acknowledge(world: World, worker: Worker) -> None:
    assert worker.task is not None
    world.acknowledged.add(worker.task.sop)
    worker.task = None


def end_task(world: World, worker: Worker) -> None:
    worker.task = None


def close_batches(world: World, worker: Worker) -> None:
    worker.book(BatchBook.close_all)
    for manifest in worker.book(BatchBook.due, STILL, EPOCH):
        listed = frozenset(each.sop_instance_uid for each in manifest.instances)
        worker.to_write[manifest.batch_id] = listed
    for batch_id in worker.leases.keys() - set(worker.book(BatchBook.unwritten)):
        let_go(worker, batch_id)


def check_manifest(rules: Rules, batch_id: str, world: World, worker: Worker) -> None:
    listed = worker.to_write.pop(batch_id)
    if standing(world, worker, batch_id, rules) is Standing.OURS:
        worker.writing[batch_id] = listed


def write_manifest(batch_id: str, world: World, worker: Worker) -> None:
    listed = worker.writing.pop(batch_id)
    world.manifests.setdefault(batch_id, listed)
    worker.book(BatchBook.manifest_written, batch_id)
    let_go(worker, batch_id)


def let_go(worker: Worker, batch_id: str) -> None:
    worker.leases.pop(batch_id, None)
    worker.asking.pop(batch_id, None)
