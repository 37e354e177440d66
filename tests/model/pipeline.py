"""What happens in the pipeline of the lease model: recovery and the importer.

Recovery has one run at a time, which may crash anywhere.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from contract.batch_states import BatchEvent, after
from contract.records import BatchState
from tests.model.world import GRACE, RECOVERY, Recovery, Rules, World

Step = Callable[[World], None]


def recovery_steps(world: World, rules: Rules) -> Iterator[tuple[str, Step]]:
    run = world.recovery
    if run is None:
        for batch_id, record in world.records.items():
            expired = record.expires_at + GRACE <= world.now
            # A batch with a manifest is the trigger's.
            if record.state is BatchState.OPEN and expired and batch_id not in world.manifests:
                yield f"recovery comes for {batch_id[-2:]}", partial(come, rules, batch_id)
        return
    if world.crashes < world.scope.crashes:
        yield "recovery crashes", crash
    if not (run.fenced or rules.no_fence):
        yield "recovery fences", partial(fence, rules)
    elif run.listing is None:
        yield "recovery lists", list_prefix
    else:
        yield "recovery writes", partial(write_recovered, rules)


def come(rules: Rules, batch_id: str, world: World) -> None:
    """Read the record, and fence on what was read: one step, since the condition makes it one."""
    record = world.records[batch_id]
    world.recovery = Recovery(batch_id, record.owner, record.expires_at)
    if not (rules.no_fence or rules.fence_anyones):
        fence(rules, world)


def crash(world: World) -> None:
    world.crashes += 1
    world.recovery = None


def fence(rules: Rules, world: World) -> None:
    run = world.recovery
    assert run is not None
    record = world.records[run.batch_id]
    as_read = (record.owner, record.expires_at) == (run.owner, run.expires_at)
    if record.state is not BatchState.OPEN or not (as_read or rules.fence_anyones):
        world.recovery = None
        return
    world.records[run.batch_id] = replace(record, owner=RECOVERY, expires_at=world.now)
    world.recovery = replace(run, fenced=True)


def list_prefix(world: World) -> None:
    run = world.recovery
    assert run is not None
    world.recovery = replace(run, listing=world.prefix(run.batch_id))


def write_recovered(rules: Rules, world: World) -> None:
    run = world.recovery
    assert run is not None
    assert run.listing is not None
    world.recovery = None
    record = world.records[run.batch_id]
    if run.batch_id in world.manifests or record.state is not BatchState.OPEN:
        return
    listed = frozenset(sorted(run.listing)[:1]) if rules.recover_half else run.listing
    if listed:
        world.manifests[run.batch_id] = listed
    else:
        move(run.batch_id, world, BatchEvent.QUARANTINED)


def move(batch_id: str, world: World, *events: BatchEvent) -> None:
    """These events happen to the batch."""
    for event in events:
        record = world.records[batch_id]
        world.records[batch_id] = replace(record, state=after(record.state, event))


def import_steps(world: World, rules: Rules) -> Iterator[tuple[str, Step]]:
    for batch_id, record in world.records.items():
        if record.state is BatchState.OPEN and batch_id in world.manifests:
            yield f"import starts {batch_id[-2:]}", partial(start_import, rules, batch_id)
        if record.state is BatchState.IMPORTING:
            yield f"import ends {batch_id[-2:]}", partial(end_import, rules, batch_id)


def start_import(rules: Rules, batch_id: str, world: World) -> None:
    """Register the manifest, sweep, leave duplicates out, and start the job."""
    move(batch_id, world, BatchEvent.CLOSED, BatchEvent.ADMITTED)
    listed, found = world.manifests[batch_id], world.prefix(batch_id)
    for sop in sorted(listed - found):
        world.wrong = f"{sop} is listed and missing"
    for sop in found:
        if sop in world.ledger or (sop not in listed and not rules.no_sweep):
            world.objects.remove((batch_id, sop))
    if not rules.no_claim:
        world.ledger |= world.prefix(batch_id)
    if not rules.late_after_sweep:
        list_for_import(batch_id, world)
    if not (rules.no_claim or rules.late_after_sweep):  # nobody else could tell the two apart
        end_import(rules, batch_id, world)


def list_for_import(batch_id: str, world: World) -> None:
    """HealthImaging takes whatever is under the prefix."""
    found = world.prefix(batch_id)
    for sop in found:
        world.imported[sop] = world.imported.get(sop, 0) + 1
    for sop in sorted(found - world.manifests[batch_id]):
        world.wrong = f"{sop} is imported and not listed"


def end_import(rules: Rules, batch_id: str, world: World) -> None:
    """The results are in the ledger."""
    if rules.late_after_sweep:
        list_for_import(batch_id, world)
    move(batch_id, world, BatchEvent.IMPORTED)
    world.ledger |= world.prefix(batch_id)
