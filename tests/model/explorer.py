"""Tries every order of a model's steps, and says how the first wrong world is reached."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

from contract.batch_states import ENDED
from tests.model.lease_model import land, steps
from tests.model.world import GRACE, LEASE, Frozen, Rules, Scope, World

# How each world was reached: by which step, from which.
Reached = dict[Frozen, tuple[str, Frozen] | None]


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong in a world, and the steps that lead there."""

    wrong: str
    trace: tuple[str, ...]


def explore(scope: Scope, rules: Rules, limit: int = 1_000_000) -> tuple[Finding | None, int]:
    """The shortest way to anything wrong, if there is one, and how many worlds were seen."""
    start = World.begin(scope).freeze()
    reached: Reached = {start: None}
    judged: dict[Frozen, str | None] = {}
    queue = deque([start])
    while queue:
        before = queue.popleft()
        for name, step in list(steps(World.thaw(before), rules)):
            world = World.thaw(before)
            step(world)
            after = world.freeze()
            if after in reached:
                continue
            reached[after] = name, before
            if wrong := defect(world, rules, judged):
                return Finding(wrong, trace(reached, after)), len(reached)
            queue.append(after)
        assert len(reached) < limit, "the scope is too large"
    return None, len(reached)


def defect(world: World, rules: Rules, judged: dict[Frozen, str | None]) -> str | None:
    """What is wrong now, or will be if every worker stops here and the pipeline goes on.

    ``judged`` remembers the answers: they do not depend on what only workers know or count.
    """
    left = replace(world, workers=[], sends=0, silences=0, crashes=world.scope.crashes).freeze()
    if left not in judged:
        judged[left] = world.wrong or next(filter(None, _ends(left, rules)), None)
    return judged[left]


def _ends(left: Frozen, rules: Rules) -> Iterator[str | None]:
    for lands in (True, False) if World.thaw(left).in_flight else (False,):
        end = World.thaw(left)
        finish(end, rules, lands=lands)
        yield end.wrong or doubled(end) or unfinished(end)


def doubled(world: World) -> str | None:
    twice = sorted(sop for sop, count in world.imported.items() if count > 1)
    return f"{twice[0]} is imported twice" if twice else None


def unfinished(world: World) -> str | None:
    waiting = sorted(each for each, row in world.records.items() if row.state not in ENDED)
    if waiting:
        return f"batch {waiting[0][-2:]} is {world.records[waiting[0]].state} for ever"
    lost = sorted(world.acknowledged - world.imported.keys())
    return f"{lost[0]} was acknowledged and is not imported" if lost else None


def finish(world: World, rules: Rules, *, lands: bool) -> None:
    """What is in flight lands or does not, and the pipeline goes on until nothing is left."""
    for put in sorted(world.in_flight) if lands else ():
        land(put, world)
    world.in_flight.clear()
    for _ in range(100):
        world.now += LEASE + GRACE
        left = [step for name, step in steps(world, rules) if name != "tick"]
        if not left:
            return
        left[0](world)


def trace(reached: Reached, key: Frozen) -> tuple[str, ...]:
    names: list[str] = []
    while came := reached[key]:
        names.append(came[0])
        key = came[1]
    return tuple(reversed(names))
