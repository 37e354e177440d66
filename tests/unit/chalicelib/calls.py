"""The calls that a step makes to its ports: counted, and what happens right behind some of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


class Crash(BaseException):
    """The process dies: nothing in it catches this."""


def die() -> None:
    raise Crash


@dataclass
class Calls:
    """``then`` is done behind the calls of those numbers, from 0; they had their effect."""

    then: Mapping[int, Callable[[], object]] = field(default_factory=dict)
    number: int = 0

    def end(self) -> None:
        self.number += 1
        if self.number - 1 in self.then:
            self.then[self.number - 1]()

    def port(self, port: object) -> Any:
        return _Port(port, self)


class _Port:
    """Stands before any port."""

    def __init__(self, port: object, calls: Calls) -> None:
        self._port = port
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        return self._counted(name, found) if callable(found) else found

    def _counted(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            answer = method(*arguments)
            # A list is as old as its call, though the product reads it as it goes.
            answer = list(answer) if name in ("list", "by_study") else answer
            self._calls.end()
            return answer

        return call
