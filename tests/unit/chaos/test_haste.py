import json

from local import names
from tests.chaos.haste import hurried, in_haste

AS_DEPLOYED = names.DEFINITION.read_text()


def retriers(definition: str) -> list[dict[str, object]]:
    states = json.loads(definition)["States"].values()
    return [retrier for state in states for retrier in state.get("Retry", ())]


def longest(retrier: dict[str, object]) -> float:
    """Seconds, with the longest pauses that chance can draw."""
    pauses, pause = 0.0, float(str(retrier.get("IntervalSeconds", 0)))
    for _ in range(int(str(retrier["MaxAttempts"]))):
        pauses += min(pause, float(str(retrier["MaxDelaySeconds"])))
        pause *= float(str(retrier["BackoffRate"]))
    return pauses


def test_what_has_no_name_of_its_own_is_tried_for_some_seconds_and_the_rest_for_some_more() -> None:
    for retrier in retriers(hurried(AS_DEPLOYED)):
        assert longest(retrier) <= (6 if retrier["ErrorEquals"] == ["States.ALL"] else 20)


def test_the_same_errors_are_retried_and_nothing_else_is_changed() -> None:
    def errors(definition: str) -> list[object]:
        return [(each["ErrorEquals"], each["MaxAttempts"] == 0) for each in retriers(definition)]

    assert errors(hurried(AS_DEPLOYED)) == errors(AS_DEPLOYED)
    here, there = json.loads(hurried(AS_DEPLOYED)), json.loads(AS_DEPLOYED)
    for document in (here, there):
        for state in document["States"].values():
            state.pop("Retry", None)
    assert here == there


def test_the_definition_is_the_deployed_one_again_behind_the_block() -> None:
    with in_haste():
        assert names.DEFINITION.read_text() == hurried(AS_DEPLOYED)
    assert names.DEFINITION.read_text() == AS_DEPLOYED
