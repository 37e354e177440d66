"""What can go wrong, each with what to do about it.

::

    DeployError (also click.ClickException: printed without a traceback, exit code 1)
    +-- ConfigInvalid    before anything was called
    +-- StackFailed      CloudFormation did not do it, and says why
    +-- StackStuck       a person has to decide first
"""

from collections.abc import Sequence

import click


class DeployError(click.ClickException):
    """Something is not as it should be; ``remedy`` is what to run or change next, if known."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.remedy = remedy

    def format_message(self) -> str:
        """The reason, and the way on."""
        return f"{self.message}\n{self.remedy}" if self.remedy else self.message


class ConfigInvalid(DeployError):
    """The configuration breaks rules: every one of them, at once."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        lines = "".join(f"\n  {problem}" for problem in problems)
        count = "1 error" if len(problems) == 1 else f"{len(problems)} errors"
        super().__init__(f"The configuration has {count}; nothing was called or changed.{lines}")


class StackFailed(DeployError):
    """A stack's operation failed; the reason is its own event's."""


class StackStuck(DeployError):
    """A stack is in a state that no deployment may change by itself."""
