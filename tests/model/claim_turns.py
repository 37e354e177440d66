"""Threads that take turns at each call of a port, as a seed says."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from random import Random
from threading import Lock, Thread, current_thread
from typing import Any

from chalicelib.stores.instances import Rows
from chalicelib.stores.memory import MemoryInstances

from contract.keys import RowKey
from contract.records import InstanceRecord

# How probable it is that a thread is replaced at a call. Each race has one of these: where it is
# small, a thread waits for long at one call while others do much.
SWITCHES = (0.03, 0.08, 0.3)
# At least, between two rows of one Query or BatchGetItem.
BETWEEN_ROWS = 0.3


class Turns:
    """Threads of which one runs at a time; ``errors`` are what they ended with."""

    def __init__(self, chance: Random) -> None:
        self.trace: list[str] = []
        self.errors: list[str] = []
        self._chance = chance
        self._switches = chance.choice(SWITCHES)
        self._gates: dict[str, Lock] = {}
        self._left: list[str] = []

    def run(self, agents: Mapping[str, Callable[[], None]]) -> None:
        """Each agent in a thread of its name, all to their ends."""
        self._left = list(agents)
        self._gates = {name: Lock() for name in agents}
        for gate in self._gates.values():
            gate.acquire()
        threads = [
            Thread(target=self._run, args=each, name=each[0], daemon=True)
            for each in agents.items()
        ]
        for thread in threads:
            thread.start()
        self._gates[self._chosen()].release()
        for thread in threads:
            thread.join()

    def point(self, call: str, least: float = 0.0) -> None:
        """Before a call: another thread may go on. Calls outside the threads do not count."""
        name = current_thread().name
        if name not in self._gates:
            return
        self.trace.append(f"{name}: {call}")
        if self._chance.random() >= max(self._switches, least):
            return
        chosen = self._chosen()
        if chosen != name:
            self._gates[chosen].release()
            self._gates[name].acquire()

    def _chosen(self) -> str:
        return self._chance.choice(self._left)

    def _run(self, name: str, agent: Callable[[], None]) -> None:
        self._gates[name].acquire()
        try:
            agent()
        except Exception as error:  # noqa: BLE001 - the verdict names it
            self.errors.append(f"{name} ends with {error!r}")
        finally:
            self._left.remove(name)
            if self._left:
                self._gates[self._chosen()].release()


class Port:
    """Stands before a store, the bucket, the journal or HealthImaging."""

    def __init__(self, port: object, turns: Turns) -> None:
        self._port, self._turns = port, turns

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        return self._in_turn(name, found) if callable(found) else found

    def _in_turn(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self._turns.point(name)
            answer = method(*arguments)
            # A list is as old as its call, though the product reads it as it goes.
            return iter([*answer]) if isinstance(answer, Iterator) else answer

        return call


class Ledger(Port):
    """Stands before the ledger of one instance, whose rows are read one after another."""

    def __init__(self, instances: MemoryInstances, turns: Turns) -> None:
        super().__init__(instances, turns)
        self._instances = instances

    @property
    def _rows(self) -> dict[RowKey, InstanceRecord]:
        return self._instances.rows

    def get_many(self, keys: Iterable[RowKey]) -> Rows:
        """See InstanceStore."""
        found: dict[RowKey, InstanceRecord] = {}
        for key in keys:
            self._turns.point("get_many, a row", BETWEEN_ROWS if found else 0)
            if key in self._rows:
                found[key] = self._rows[key]
        return found

    def of_instances(self, instances: Iterable[str]) -> Mapping[str, tuple[InstanceRecord, ...]]:
        """See InstanceStore: by key, from each row to the next that there is by then."""
        self._turns.point("of_instances")
        wanted = set(instances)
        rows: list[InstanceRecord] = []
        while left := [key for key in self._rows if not rows or rows[-1].row_key < key]:
            rows.append(self._rows[min(left)])
            self._turns.point("of_instances, the next row", BETWEEN_ROWS)
        found = {row.instance for row in rows} & wanted
        return {each: tuple(row for row in rows if row.instance == each) for each in found}
