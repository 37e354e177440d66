from collections import Counter

from tests.chaos.plan import Kind, plan


def test_a_seed_always_gives_the_same_schedule_and_another_one_another() -> None:
    assert plan(7, 120) == plan(7, 120)
    assert plan(7, 120) != plan(8, 120)


def test_a_longer_run_begins_as_the_shorter_one() -> None:
    assert plan(7, 600)[: len(plan(7, 120))] == plan(7, 120)


def test_two_and_a_half_minutes_hold_every_kind_more_than_once() -> None:
    for seed in range(20):
        counts = Counter(fault.kind for fault in plan(seed, 150))
        assert min(counts[kind] for kind in Kind) >= 2
