"""Tries every order of a model's steps, and says how the first wrong world is reached."""

import copyreg
import io
import pickle
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import cache
from hashlib import blake2b
from operator import attrgetter
from typing import Any

from store_scp.batches import BatchLimits, Placement
from store_scp.instance import Instance, Route
from store_scp.leases import Lease

from contract.batch_states import ENDED
from contract.checksums import Checksum
from contract.manifest import ManifestInstance
from tests.model.lease_model import land, steps
from tests.model.world import GRACE, LEASE, Rules, Scope, World
from tests.unit.store_scp.builders import instance


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong in a world, and the steps that lead there."""

    wrong: str
    trace: tuple[str, ...]


def explore(scope: Scope, rules: Rules, limit: int = 1_000_000) -> tuple[Finding | None, int]:
    """The shortest way to anything wrong, if there is one, and how many worlds were seen."""
    start = World.begin(scope)
    # How each world was reached: by which step, from which.
    reached: dict[bytes, tuple[str, bytes] | None] = {digest(start): None}
    judged: dict[bytes, str | None] = {}
    queue = deque([pickle.dumps(start)])
    while queue:
        frozen = queue.popleft()
        before = thaw(frozen)
        came_from = digest(before)
        for name, step in list(steps(before, rules)):
            world = thaw(frozen)
            step(world)
            key = digest(world)
            if key in reached:
                continue
            reached[key] = name, came_from
            if wrong := defect(world, rules, judged):
                return Finding(wrong, trace(reached, key)), len(reached)
            queue.append(pickle.dumps(world))
        assert len(reached) < limit, "the scope is too large"
    return None, len(reached)


def defect(world: World, rules: Rules, judged: dict[bytes, str | None]) -> str | None:
    """What is wrong now, or will be if every worker stops here and the pipeline goes on.

    ``judged`` remembers the answers: they do not depend on what only workers know.
    """
    left = replace(world, workers=[])
    key = digest(left)
    if key not in judged:
        judged[key] = left.wrong or next(filter(None, _ends(left, rules)), None)
    return judged[key]


def _ends(world: World, rules: Rules) -> Iterator[str | None]:
    for lands in (True, False) if world.in_flight else (False,):
        end = thaw(pickle.dumps(world))
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
    world.crashes = world.scope.crashes
    for _ in range(100):
        world.now += LEASE + GRACE
        left = [step for name, step in steps(world, rules) if name != "tick"]
        if not left:
            return
        left[0](world)


def trace(reached: dict[bytes, tuple[str, bytes] | None], key: bytes) -> tuple[str, ...]:
    names: list[str] = []
    while came := reached[key]:
        names.append(came[0])
        key = came[1]
    return tuple(reversed(names))


def thaw(frozen: bytes) -> World:
    world = pickle.loads(frozen)  # noqa: S301 - our own
    assert isinstance(world, World)
    return world


def digest(world: World) -> bytes:
    """Equal for equal worlds, nearly always; where it is not, one is looked at twice."""
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, pickle.HIGHEST_PROTOCOL)
    pickler.fast = True  # by value: without it, what is shared would count, too
    pickler.dump(world)
    return blake2b(buffer.getbuffer(), digest_size=16).digest()


def _pickle_fast(kind: type[Any], make: Callable[..., Any], *names: str) -> None:
    """By constructor and attributes: most of the explorer's time goes into pickling values."""
    read = attrgetter(*names)
    copyreg.pickle(kind, lambda value: (make, read(value) if len(names) > 1 else (read(value),)))


@cache
def _an_instance(sop: str) -> Instance:
    return instance(sop)


_pickle_fast(Instance, _an_instance, "header.sop_instance_uid")
for kind in (Lease, Placement, ManifestInstance, Checksum, BatchLimits, Route, Scope):
    _pickle_fast(kind, kind, *(each.name for each in fields(kind)))
