"""A step of an import that may stop between any two of its calls, and go on later or never.

What it has been answered is kept. To go on, it is run again from its beginning: those calls have
the same answers, and none of them has an effect.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from chalicelib.imports.context import ImportContext
from chalicelib.operations.repeat import Operations
from chalicelib.stores import Stores
from chalicelib.stores.files import StoredObject

from tests.model.import_world import Cloud, Frozen, FrozenMap, at

Tape = tuple["Answer", ...]


class Answer(NamedTuple):
    """What a call was answered, or the error that it raised."""

    value: Any
    error: tuple[type[Exception], tuple[Any, ...]] | None = None
    is_iterator: bool = False

    @classmethod
    def of(cls, call: Callable[[], Any]) -> "Answer":
        try:
            value = call()
        except Exception as error:  # noqa: BLE001 - raised again by give
            return cls(None, (type(error), error.args))
        if isinstance(value, Iterator):
            return cls(tuple(map(_hashable, value)), is_iterator=True)
        return cls(_hashable(value))

    def give(self) -> Any:
        if self.error:
            kind, arguments = self.error
            raise kind(*arguments)
        return iter(self.value) if self.is_iterator else self.value


def _hashable(value: Any) -> Any:
    if isinstance(value, StoredObject):
        return replace(value, metadata=FrozenMap(value.metadata))
    if isinstance(value, Mapping):
        return FrozenMap(value)
    return value


class Calls:
    """The calls of one run; ``stops`` are the moments behind each: the cloud, and the answers.

    ``fault`` goes wrong with the call of its number; ``minutes`` is when the step began.
    """

    def __init__(
        self,
        cloud: Cloud,
        tape: Tape,
        minutes: int,
        fault: tuple[int, str] | None,
        *,
        keeps_stops: bool,
    ) -> None:
        self.cloud, self.fault, self._now = cloud, fault, at(minutes)
        self.tape = list(tape)
        self.stops: list[tuple[Frozen | None, Tape]] = []
        self.asked: dict[int, str] = {}  # HealthImaging's methods, by the call's number
        self._position, self._played, self._keeps_stops = 0, len(tape), keeps_stops

    def call(self, port: object, name: str, method: Callable[..., Any], *arguments: Any) -> Any:
        number = self._position
        self._position += 1
        if number < self._played:
            return self.tape[number].give()
        if port is self.cloud.imaging:
            self.asked[number] = name
            self.cloud.imaging.fault = (
                self.fault[1] if self.fault and self.fault[0] == number else None
            )
        answer = Answer.of(lambda: method(*arguments))
        self.tape.append(answer)
        if self._keeps_stops:
            frozen = None if name in _READS else self.cloud.freeze()
            self.stops.append((frozen, tuple(self.tape)))
        return answer.give()

    def context(self) -> ImportContext:
        """What a step works with."""
        real = self.cloud.context
        stores: Any = {
            name: _Port(getattr(real.stores, name), self)
            for name in ("objects", "jobs", "batches", "instances", "studies", "image_sets")
        }
        files: Any = _Port(real.files, self)
        results: Any = _Port(real.results, self)
        service: Any = _Port(real.service, self)
        # What is blocked is no part of the model: each try is made as if it were the first.
        stores["blocked"] = real.stores.blocked
        return ImportContext(Stores(**stores), files, results, service, real.settings, self._now)

    def operations(self) -> Operations:
        """What an operation works with."""
        journal: Any = _Port(self.cloud.journal, self)
        return Operations(self.context(), journal)


class _Port:
    """Stands before a store or HealthImaging."""

    def __init__(self, port: object, calls: Calls) -> None:
        self._port, self._calls = port, calls

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if not callable(found):
            return found
        if name == "swap_many":  # row by row: a process may stop between two
            return lambda changes: frozenset(
                key
                for change in changes
                for key in self._calls.call(self._port, name, found, [change])
            )
        return lambda *arguments: self._calls.call(self._port, name, found, *arguments)


# Calls that change nothing.
_READS = frozenset(
    (
        "get",
        "get_many",
        "of_instances",
        "by_study",
        "by_sop_instance",
        "deleted",
        "read",
        "head",
        "list",
        "folders",
        "begin",
        "digest_of_both",
        "digest",
    )
) | {"find", "inventory", "look", "keeps"}
