"""A port whose caller dies at one of its calls, right after the call had its effect."""

from collections.abc import Callable
from typing import Any


class Crash(BaseException):
    """The process dies: nothing in it catches this."""


class Dying:
    """Stands before any port; ``dies_at`` None only counts the calls."""

    def __init__(self, port: object, dies_at: int | None = None) -> None:
        self._port = port
        self._dies_at = dies_at
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        return self._counted(found) if callable(found) else found

    def _counted(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            answer = method(*arguments)
            self.calls += 1
            if self.calls - 1 == self._dies_at:
                raise Crash
            return answer

        return call
