import pytest
from store_scp.spool import BLOCK_BYTES, Buffer, Spool

KIB, MIB = 1024, 1024**2


class Account:
    """What the board would count."""

    taken = 0
    others = 0

    def adjust(self, change: int) -> None:
        self.taken += change

    def buffered(self) -> int:
        return self.taken + self.others


@pytest.fixture
def account() -> Account:
    return Account()


@pytest.fixture
def spool(account: Account) -> Spool:
    return Spool(10 * MIB, account.adjust, account.buffered)


@pytest.mark.parametrize(
    ("asked", "given"),
    [(0, 64 * KIB), (64 * KIB, 64 * KIB), (64 * KIB + 1, MIB), (MIB + 1, BLOCK_BYTES),
     (100 * MIB, BLOCK_BYTES)],
)  # fmt: skip
def test_a_buffer_is_the_smallest_that_fits(spool: Spool, asked: int, given: int) -> None:
    assert spool.take(asked).size == given


def test_growing_keeps_the_bytes_and_gives_the_smaller_back(spool: Spool, account: Account) -> None:
    small = spool.take(0)
    small.memory[:4] = b"data"
    large = spool.grow(small, 4)
    assert bytes(large.memory[:4]) == b"data"
    assert account.taken == large.size == MIB
    assert spool.take(0) is small


def test_only_so_many_unused_buffers_are_kept(spool: Spool, account: Account) -> None:
    buffers = [spool.take(BLOCK_BYTES) for _ in range(4)]
    for each in buffers:
        spool.give(each)
    assert account.taken == 0
    again: list[Buffer] = [spool.take(BLOCK_BYTES) for _ in range(4)]
    assert sum(any(each is old for old in buffers) for each in again) == 2


def test_it_is_congested_before_it_is_full_and_counts_what_other_workers_have(
    spool: Spool, account: Account
) -> None:
    def state() -> tuple[bool, bool]:
        return spool.congested, spool.full

    spool.take(BLOCK_BYTES)
    assert state() == (False, False)
    account.others = MIB + 200 * KIB
    assert state() == (True, False)
    account.others = 3 * MIB
    assert state() == (True, True)


@pytest.mark.parametrize(
    ("others", "congested", "full"),
    [(9 * MIB, False, False), (9 * MIB + 1, True, False), (10 * MIB, True, False),
     (10 * MIB + 1, True, True)],
)  # fmt: skip
def test_a_limit_that_is_just_reached_stops_nobody(
    spool: Spool, account: Account, others: int, congested: bool, full: bool
) -> None:
    account.others = others
    assert (spool.congested, spool.full) == (congested, full)
