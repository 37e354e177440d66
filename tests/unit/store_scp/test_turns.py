"""Work that waits for a turn: in order, a few slices a turn, whoever fails or gives up."""

import asyncio
from collections.abc import Callable

from store_scp.turns import SLICES_A_TURN, Turns


async def after_turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_a_turn_serves_a_few_slices_in_the_order_they_came() -> None:
    async def scenario() -> None:
        turns, served = Turns(), list[int]()
        for number in range(3 * SLICES_A_TURN):
            turns.wait(lambda number=number: served.append(number))  # type: ignore[misc]
        assert served == []
        progress = []
        while len(served) < 3 * SLICES_A_TURN:
            await after_turns(1)
            progress.append(len(served))
        assert served == sorted(served)
        # However many wait, a turn of the loop has time for others.
        assert {b - a for a, b in zip([0, *progress], progress, strict=False)} <= {0, SLICES_A_TURN}

    asyncio.run(scenario())


def test_work_that_waits_again_stands_behind_the_others() -> None:
    async def scenario() -> None:
        turns, served = Turns(), list[str]()

        def greedy() -> None:
            served.append("greedy")
            if len(served) < 20:
                turns.wait(greedy)

        for _ in range(SLICES_A_TURN):
            turns.wait(greedy)
        turns.wait(lambda: served.append("other"))
        await after_turns(30)
        assert served.index("other") == SLICES_A_TURN

    asyncio.run(scenario())


def test_work_of_many_slices_has_a_turn_to_itself() -> None:
    async def scenario() -> None:
        turns, served = Turns(), list[str]()
        for name in ("a", "b", "c"):
            turns.wait(lambda name=name: served.append(name), SLICES_A_TURN)  # type: ignore[misc]
        progress = []
        while len(served) < 3:
            await after_turns(1)
            progress.append(len(served))
        assert [b - a for a, b in zip([0, *progress], progress, strict=False)].count(1) == 3

    asyncio.run(scenario())


def test_a_slice_that_fails_and_one_that_was_given_up_leave_the_others_their_turns() -> None:
    async def scenario() -> None:
        turns, reported, served = Turns(), list[object](), list[int]()
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
        error = ValueError("a mistake")
        turns.wait(_raising(error))
        given_up = asyncio.create_task(turns.next())
        await after_turns(1)
        given_up.cancel()
        turns.wait(lambda: served.append(1))
        await turns.next()
        await after_turns(2)
        assert (served, reported) == ([1], [error])

    asyncio.run(scenario())


def _raising(error: Exception) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work
