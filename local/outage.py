"""Something that the local cloud asks again and again, and that fails for a while."""

from collections.abc import Callable


class Outage:
    """Says once that something fails, however often it does, and once that it works again."""

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say
        self._is_on = False

    def failed(self, why: str) -> None:
        """The first failure is said."""
        if not self._is_on:
            self._say(f"{why}. This goes on and asks again.")
        self._is_on = True

    def worked(self, what: str) -> None:
        """The first success after a failure is said."""
        if self._is_on:
            self._say(f"{what} works again.")
        self._is_on = False
