"""The state machine's definition on the virtual clock."""

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from bench.pipeline.clock import VirtualClock
from bench.pipeline.machine import DEFINITION, Execution, Machine, Outcome, longest_delay

STATES = json.loads(DEFINITION.read_text())["States"]
INPUT = {"batchId": "b", "bucket": "dicom", "manifestKey": "m"}
Answers = dict[str, list[Outcome]]


def job(status: str, wait: int = 5) -> Outcome:
    return {"jobId": "1", "status": status, "waitSeconds": wait}, ""


def failed(error: str) -> Outcome:
    return None, error


class Run:
    """One execution whose tasks answer what they are told to, one second after the other."""

    def __init__(self, answers: Answers) -> None:
        self.clock = VirtualClock()
        self.answers = answers
        self.ended: list[tuple[str, float]] = []
        self.machine = Machine(self.clock, self._task, self._end, random.Random(1))  # noqa: S311
        self.machine.start("arn", dict(INPUT))
        self.clock.run()

    def _task(self, state: str, data: dict[str, Any], done: Callable[[Outcome], None]) -> None:
        assert data["executionArn"] == "arn"
        answer = self.answers[state].pop(0)
        self.clock.after(1.0, lambda: done(answer))

    def _end(self, execution: Execution, state: str) -> None:
        assert execution.data["batchId"] == "b"
        self.ended.append((state, self.clock.seconds))


def test_it_waits_as_long_as_the_job_says_and_counts_every_state() -> None:
    run = Run(
        {
            "StartImportJob": [job("SUBMITTED", 5)],
            "CheckStatus": [job("IN_PROGRESS", 7), job("COMPLETED")],
        }
    )
    assert run.ended == [("ImportSucceeded", 1 + 5 + 1 + 7 + 1)]
    assert run.machine.transitions.total() == 2 + 2 * 3 + 1


def test_a_throttled_start_is_tried_again_and_each_retry_is_a_transition() -> None:
    run = Run(
        {
            "StartImportJob": [failed("ImportThrottled")] * 3 + [job("SUBMITTED")],
            "CheckStatus": [job("COMPLETED")],
        }
    )
    assert [state for state, _ in run.ended] == ["ImportSucceeded"]
    assert run.machine.transitions["StartImportJob (retry)"] == 3


def test_an_error_that_no_rule_retries_is_recorded() -> None:
    run = Run({"StartImportJob": [failed("ImportRefused")], "RecordFailure": [job("FAILED")]})
    assert [state for state, _ in run.ended] == ["ImportFailed"]


def test_a_rule_gives_up_after_its_attempts() -> None:
    (rule,) = (each for each in STATES["CheckStatus"]["Retry"]
               if each["ErrorEquals"] == ["ResultsNotReady"])  # fmt: skip
    answers: Answers = {
        "StartImportJob": [job("SUBMITTED")],
        "CheckStatus": [failed("ResultsNotReady")] * (rule["MaxAttempts"] + 1) + [job("FAILED")],
        "RecordFailure": [job("FAILED")],
    }
    run = Run(answers)
    assert [state for state, _ in run.ended] == ["ImportFailed"]
    assert run.machine.transitions["LookAgainLater"] == 1
    assert not answers["CheckStatus"]


@pytest.mark.parametrize(("tried", "seconds"), [(0, 2), (1, 3), (2, 4.5), (9, 60), (599, 60)])
def test_retries_back_off_up_to_the_rules_cap(tried: int, seconds: float) -> None:
    assert longest_delay(STATES["StartImportJob"]["Retry"][1], tried) == seconds
