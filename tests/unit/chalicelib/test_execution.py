import json

from chalicelib.imports.execution import (
    MAX_REASON,
    Execution,
    Patience,
    bounded,
    failure,
    job_state,
    wait_seconds,
)
from hypothesis import given
from hypothesis import strategies as st

from contract.keys import manifest_key
from contract.records import JobStatus
from tests.unit.chalicelib.builders import BATCH, EVENT, EXECUTION, NEWER_BATCH


def caught(error: str, message: str) -> dict[str, object]:
    cause = json.dumps({"errorType": error, "errorMessage": message, "stackTrace": ["secret"]})
    return EVENT | {"error": {"Error": error, "Cause": cause}}


def test_an_execution_survives_its_input() -> None:
    given_back = Execution.parse(json.loads(EXECUTION.to_input()))
    assert (given_back.batch_id, given_back.arn) == (BATCH, None)
    assert Execution.parse(EVENT) == EXECUTION


def test_an_execution_that_names_another_batchs_manifest_has_its_own() -> None:
    """Somebody has started it by hand: it must fail, move and admit nothing of that batch."""
    mixed = EVENT | {"manifestKey": manifest_key(NEWER_BATCH)}
    assert Execution.parse(mixed) == EXECUTION


@given(st.floats(0, 1e9), st.integers(1, 60), st.integers(60, 3600), st.integers(60, 90_000))
def test_the_wait_grows_with_the_age_between_its_bounds(
    age: float, shortest: int, longest: int, max_age: int
) -> None:
    patience = Patience(shortest, longest, max_age)
    wait = wait_seconds(age, patience)
    assert shortest <= wait
    assert wait <= longest or age > max_age
    assert wait <= wait_seconds(age * 2, patience)


def test_a_day_of_polling_stays_far_below_the_execution_history() -> None:
    assert polls(86_400) * 9 < 15_000


def test_a_job_is_watched_for_as_long_as_healthimaging_remembers_it() -> None:
    assert polls(90 * 86_400) < polls(86_400) + 150


def polls(until: int) -> int:
    """How many looks at a job it takes to that age in seconds."""
    age, count = 0, 0
    while age < until:
        age += wait_seconds(age, Patience(5, 60, 86_400))
        count += 1
    return count


def test_the_job_member_has_a_message_only_if_there_is_one() -> None:
    assert "message" not in job_state("j", "d", 5)
    assert job_state("j", "d", 5, JobStatus.FAILED, "why") == {
        "jobId": "j",
        "datastoreId": "d",
        "status": "FAILED",
        "waitSeconds": 5,
        "message": "why",
    }


def test_an_error_of_ours_is_told_with_its_message_and_nothing_else() -> None:
    why = failure(caught("ImportRefused", "AccessDeniedException: no role"))
    assert why.error == "ImportRefused"
    assert why.reason == "ImportRefused: AccessDeniedException: no role"


def test_the_message_of_an_error_that_is_not_ours_is_not_repeated() -> None:
    why = failure(caught("KeyError", "DOE^JOHN"))
    assert "DOE" not in why.reason
    assert "KeyError" in why.reason


def test_healthimagings_own_message_is_told() -> None:
    why = failure(
        EVENT | {"job": {"status": "FAILED", "message": "HealthImaging: FILE_COUNTS_LIMIT"}}
    )
    assert why.reason == "HealthImaging: FILE_COUNTS_LIMIT"
    assert "unknown" in failure(EVENT).reason


any_json = st.recursive(
    st.none() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
)


@given(st.sampled_from(["ImportRefused", "States.Timeout"]) | st.text(), any_json)
def test_any_cause_becomes_a_bounded_printable_reason(name: str, cause: object) -> None:
    why = failure(EVENT | {"error": {"Error": name, "Cause": cause}})
    assert why.reason.isprintable()
    assert len(why.reason) <= 2 * MAX_REASON + 100


@given(st.text())
def test_bounded_text_is_printable(text: str) -> None:
    assert bounded(text).isprintable()
