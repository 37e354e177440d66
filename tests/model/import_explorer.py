"""Tries every order of the import model's steps, and says how the first wrong world is reached."""

import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import structlog

from tests.model.explorer import Finding
from tests.model.import_changes import changes
from tests.model.import_judge import Judge
from tests.model.import_model import Process, Scope, World, begin, tasks
from tests.model.import_ports import Calls, Tape
from tests.model.import_steps import follow, perform
from tests.model.import_world import Cloud, Frozen

Fault = tuple[int, str]


class Run(NamedTuple):
    """A step from where it was to its end: the cloud then, and at each call behind which it stops.

    ``asked``: HealthImaging's methods, by the call's number.
    """

    cloud: int
    stops: tuple[tuple[int, Tape], ...]
    asked: tuple[tuple[int, str], ...]


class Explorer:
    """What was found out about one scope; clouds have numbers, and nothing is tried twice."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._numbers: dict[Frozen, int] = {}
        self._frozen: list[Frozen] = []
        self._runs: dict[tuple[int, Process, Fault | None], Run] = {}
        self._changes: dict[tuple[int, Scope], list[tuple[str, Scope, int]]] = {}
        self._judge = Judge(scope, self.thaw, self.number, self.run)

    def number(self, cloud: Cloud) -> int:
        return self._number(cloud.freeze())

    def thaw(self, number: int) -> Cloud:
        return Cloud.thaw(self._frozen[number])

    def _number(self, frozen: Frozen) -> int:
        found = self._numbers.setdefault(frozen, len(self._frozen))
        if found == len(self._frozen):
            self._frozen.append(frozen)
        return found

    def explore(self, limit: int) -> tuple[Finding | None, int]:
        """The shortest way to anything wrong, if there is one, and how many worlds were seen."""
        start = World(self.number(begin(self._scope)), self._scope)
        reached: dict[World, tuple[str, World] | None] = {start: None}
        queue = deque([start])
        while queue:
            before = queue.popleft()
            for name, after in self._moves(before):
                if after in reached:
                    continue
                reached[after] = name, before
                if wrong := self._judge.defect(after.cloud):
                    return Finding(wrong, _trace(reached, after)), len(reached)
                queue.append(after)
            assert len(reached) < limit, "the scope is too large"
        return None, len(reached)

    def _moves(self, world: World) -> Iterator[tuple[str, World]]:
        cloud = self.thaw(world.cloud)
        for name, left, after in self._changes_of(world):
            yield name, World(after, left, world.stopped)
        for process, left in tasks(cloud, world.left):
            others = tuple(
                each
                for each in world.stopped
                if each.task.slot != process.task.slot or not process.task.stage.name
            )
            name = str(process.task)
            yield from self._ways(name, process, World(world.cloud, left, others))
        for process in world.stopped:
            others = tuple(each for each in world.stopped if each is not process)
            name = f"{process.task} goes on"
            yield from self._ways(name, process, World(world.cloud, world.left, others))

    def _changes_of(self, world: World) -> list[tuple[str, Scope, int]]:
        key = world.cloud, world.left
        if key not in self._changes:
            self._changes[key] = [
                (name, left, self.number(after))
                for name, left, after in changes(self._frozen[world.cloud], world.left)
            ]
        return self._changes[key]

    def _ways(self, name: str, process: Process, world: World) -> Iterator[tuple[str, World]]:
        """A step's ends: without a fault, stopped at a call, and with each fault."""
        run = self.run(world.cloud, process)
        yield name, world._replace(cloud=run.cloud)
        yield from _stops(name, process, world, run)
        if not world.left.faults:
            return
        left = world.left.spend("faults")
        for number, method in run.asked:
            for faulty, how in self._scope.kinds:
                if faulty == method:
                    failed = self.run(world.cloud, process, (number, how))
                    told = f"{name}, {method} is {how}"
                    yield told, World(failed.cloud, left, world.stopped)
                    yield from _stops(
                        told, process, World(world.cloud, left, world.stopped), failed
                    )

    def run(self, number: int, process: Process, fault: Fault | None = None) -> Run:
        """From where the process is to its end."""
        key = number, process, fault
        if key not in self._runs:
            self._runs[key] = self._run(number, process, fault)
        return self._runs[key]

    def _run(self, number: int, process: Process, fault: Fault | None) -> Run:
        cloud = self.thaw(number)
        stops = self._scope.stops > 0
        calls = Calls(cloud, process.tape, process.minutes, fault, keeps_stops=stops)
        ended = perform(process.task, calls)
        follow(process.task, ended, cloud)
        found, last = [], number
        for frozen, tape in calls.stops:
            last = last if frozen is None else self._number(frozen)
            found.append((last, tape))
        return Run(self.number(cloud), tuple(found), tuple(calls.asked.items()))


def _stops(name: str, process: Process, world: World, run: Run) -> Iterator[tuple[str, World]]:
    if not world.left.stops or process.task.kind == "recovery of":
        return
    left = world.left.spend("stops")
    for cloud, tape in run.stops:
        stopped = process._replace(tape=tape)
        told = f"{name}, and stops after call {len(tape)}"
        yield told, World(cloud, left, (*world.stopped, stopped))


def explore(scope: Scope, limit: int = 200_000) -> tuple[Finding | None, int]:
    """See Explorer.explore; nothing is logged."""
    with unlogged():
        return Explorer(scope).explore(limit)


@contextmanager
def unlogged() -> Iterator[None]:
    """The product logs nothing but what is critical."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)


def _trace(reached: dict[World, tuple[str, World] | None], world: World) -> tuple[str, ...]:
    names: list[str] = []
    while came := reached[world]:
        names.append(came[0])
        world = came[1]
    return tuple(reversed(names))
