"""Shares an event loop's time among peers: a peer that has used a slice of it waits in a queue.

One turn of the loop deals with everything that has arrived, and a peer decides how much that is:
one read can hold tens of thousands of tiny fragments, and a header hundreds of thousands of
elements. So work is cut into slices of about a millisecond. Nobody waits for a first slice. All
work beyond it stands in one queue, first come, first served, and a turn serves a few slices of the
queue, however many peers are in it. Whoever is not in the queue waits a few milliseconds at most.
"""

import asyncio
from collections import deque
from collections.abc import Callable

# A slice: steps of the upper layer (Connection.steps), or elements of a header.
SLICE_STEPS = 256
SLICE_ELEMENTS = 2_000
# Received bytes cost time as well: so many as much as a step.
BYTES_A_STEP = 4_096
SLICES_A_TURN = 4


class Turns:
    """One worker's queue of work that waits for a turn of its event loop."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Callable[[], None], int]] = deque()
        self._serving = False

    def wait(self, work: Callable[[], None], slices: int = 1) -> None:
        """Call ``work`` in a later turn; it does so many slices, and may wait again."""
        self._waiting.append((work, slices))
        if not self._serving:
            self._serving = True
            asyncio.get_running_loop().call_soon(self._serve)

    async def next(self) -> None:
        """Return in a later turn, to do one slice."""
        turn = asyncio.Event()
        self.wait(turn.set)
        await turn.wait()

    def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        served = 0
        while self._waiting and served < SLICES_A_TURN:
            work, slices = self._waiting.popleft()
            loop.call_soon(work)
            served += slices
        self._serving = bool(self._waiting)
        if self._serving:
            loop.call_soon(self._serve)
