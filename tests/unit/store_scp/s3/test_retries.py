import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_scp.dimse.status import Status
from store_scp.s3.errors import AttemptFailed, Remedy
from store_scp.s3.retries import attempt_seconds, pause_before_retry


def failed(remedy: Remedy, retry_after: float = 0.0) -> AttemptFailed:
    return AttemptFailed("Code", Status.OUT_OF_RESOURCES, remedy, retry_after)


@pytest.mark.parametrize(
    ("remedy", "times"),
    [
        (Remedy.GIVE_UP, 0),
        (Remedy.NEW_CREDENTIALS, 1),
        (Remedy.NEW_TIME, 2),
        (Remedy.SEND_AGAIN, 2),
    ],
)
def test_each_remedy_is_tried_so_often(remedy: Remedy, times: int) -> None:
    pauses = [pause_before_retry(failed(remedy), [remedy] * n, 60, 0.5) for n in range(times + 1)]
    assert None not in pauses[:-1]
    assert pauses[-1] is None


def test_pauses_double_up_to_the_longest() -> None:
    later = failed(Remedy.TRY_LATER)
    pauses = [pause_before_retry(later, [Remedy.TRY_LATER] * n, 60, 1.0) for n in range(9)]
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]


@pytest.mark.parametrize("remedy", [Remedy.NEW_CREDENTIALS, Remedy.NEW_TIME])
def test_another_signature_is_tried_at_once(remedy: Remedy) -> None:
    assert pause_before_retry(failed(remedy), [], 1, 1.0) == 0


def test_s3_may_ask_for_a_longer_pause_than_ours() -> None:
    assert pause_before_retry(failed(Remedy.TRY_LATER, 7), [], 60, 1.0) == 7
    assert pause_before_retry(failed(Remedy.TRY_LATER, 7), [], 7, 1.0) is None


@given(
    st.sampled_from(Remedy),
    st.lists(st.sampled_from(Remedy), max_size=2000),
    st.floats(0, 1e9),
    st.floats(-10, 1e6),
    st.floats(0, 1),
)
def test_a_pause_always_leaves_time_for_an_attempt(
    remedy: Remedy, earlier: list[Remedy], retry_after: float, remaining: float, chance: float
) -> None:
    pause = pause_before_retry(failed(remedy, retry_after), earlier, remaining, chance)
    assert pause is None or 0 <= pause < remaining


@pytest.mark.parametrize(("remaining", "attempt"), [(60, 30), (2, 1), (1.5, 1), (0.4, 0.4)])
def test_an_attempt_leaves_time_for_another(remaining: float, attempt: float) -> None:
    assert attempt_seconds(remaining) == attempt
