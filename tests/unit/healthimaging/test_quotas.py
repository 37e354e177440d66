from hypothesis import given
from hypothesis import strategies as st

from local.healthimaging.quotas import Rate, TokenBucket

START_IMPORT = Rate(per_second=1, burst=2)  # the devguide's throttling page, 2026


def test_a_full_bucket_gives_its_burst_and_then_throttles() -> None:
    bucket = TokenBucket.full(START_IMPORT, 0)
    first = bucket.take(0)
    assert first
    second = first.take(0)
    assert second
    assert second.take(0) is None
    assert second.take(1) is not None


@given(st.lists(st.floats(0, 5), max_size=200))
def test_no_more_calls_pass_than_rate_and_burst_allow(gaps: list[float]) -> None:
    bucket, now, passed = TokenBucket.full(START_IMPORT, 0), 0.0, 0
    for gap in gaps:
        now += gap
        after = bucket.take(now)
        if after:
            bucket, passed = after, passed + 1
    assert passed <= START_IMPORT.burst + now * START_IMPORT.per_second + 1e-6


def test_a_clock_that_steps_back_refills_nothing() -> None:
    empty = TokenBucket(START_IMPORT, 0.0, 100.0)
    assert empty.take(50.0) is None
