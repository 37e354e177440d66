"""The state machine, run from its definition file on the virtual clock: waits, retries and all.

Only what the definition uses is understood; anything else raises, so that nothing it says is
passed over. https://states-language.net/spec.html
"""

import json
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from bench.pipeline.clock import VirtualClock

DEFINITION = Path(__file__).parents[2] / "stepfunctions" / "definition.asl.json"

State = Mapping[str, Any]
# What a task came to: its result, or the name of its error.
Outcome = tuple[dict[str, Any] | None, str]
# Runs a state's task with the execution's data, and tells when it is done.
Task = Callable[[str, dict[str, Any], Callable[[Outcome], None]], None]


@dataclass(slots=True)
class Execution:
    """One run of the machine: its data, and how often each of the current state's rules retried."""

    data: dict[str, Any]
    arn: str
    retries: Counter[int] = field(default_factory=Counter)


class Machine:
    """Runs executions; ``transitions`` are what Step Functions bills, retries among them."""

    def __init__(
        self,
        clock: VirtualClock,
        task: Task,
        ended: Callable[[Execution, str], None],
        rng: random.Random,
    ) -> None:
        """``ended`` is told of each execution's last state."""
        document = json.loads(DEFINITION.read_text())
        self._states: Mapping[str, State] = document["States"]
        self._first: str = document["StartAt"]
        self._clock = clock
        self._task = task
        self._ended = ended
        self._rng = rng
        self.transitions: Counter[str] = Counter()
        self.executions = 0

    def start(self, name: str, data: dict[str, Any]) -> None:
        """Start an execution."""
        self.executions += 1
        self._enter(self._first, Execution(data, name))

    def _enter(self, name: str, execution: Execution) -> None:
        self.transitions[name] += 1
        execution.retries.clear()
        state = self._states[name]
        match state["Type"]:
            case "Pass":
                execution.data = _parameters(state["Parameters"], execution)
                self._enter(state["Next"], execution)
            case "Task":
                self._run(name, execution)
            case "Wait":
                path = state.get("SecondsPath")
                seconds = _at(path, execution.data) if path else state["Seconds"]
                self._clock.after(seconds, partial(self._enter, state["Next"], execution))
            case "Choice":
                self._enter(_chosen(state, execution.data), execution)
            case "Succeed" | "Fail":
                self._ended(execution, name)
            case other:
                raise NotImplementedError(other)

    def _run(self, name: str, execution: Execution) -> None:
        self._task(name, execution.data, partial(self._done, name, execution))

    def _done(self, name: str, execution: Execution, outcome: Outcome) -> None:
        state, (result, error) = self._states[name], outcome
        if result is not None:
            execution.data = _placed(state["ResultPath"], execution.data, result)
            self._enter(state["Next"], execution)
            return
        delay = self._retry_delay(state, error, execution)
        if delay is not None:
            self.transitions[f"{name} (retry)"] += 1
            self._clock.after(delay, partial(self._run, name, execution))
            return
        rule = next(each for each in state["Catch"] if _names(each, error))
        execution.data = _placed(rule["ResultPath"], execution.data, {"Error": error})
        self._enter(rule["Next"], execution)

    def _retry_delay(self, state: State, error: str, execution: Execution) -> float | None:
        for number, rule in enumerate(state.get("Retry", ())):
            if _names(rule, error):
                tried = execution.retries[number]
                if tried == rule["MaxAttempts"]:
                    return None
                execution.retries[number] += 1
                return self._rng.uniform(0, longest_delay(rule, tried))
        return None


def longest_delay(rule: Mapping[str, Any], tried: int) -> float:
    """What full jitter is drawn below, before the retry after ``tried`` others."""
    if rule.get("JitterStrategy") != "FULL":
        raise NotImplementedError(str(rule))
    # 1.5 to the power of 600 is more than a float needs to be.
    backoff = rule["IntervalSeconds"] * rule["BackoffRate"] ** min(tried, 100)
    return float(min(backoff, rule["MaxDelaySeconds"]))


def _names(rule: Mapping[str, Any], error: str) -> bool:
    return error in rule["ErrorEquals"] or "States.ALL" in rule["ErrorEquals"]


def _chosen(state: State, data: Mapping[str, Any]) -> str:
    found = (
        each["Next"]
        for each in state["Choices"]
        if _at(each["Variable"], data) == each["StringEquals"]
    )
    return str(next(found, state["Default"]))


def _parameters(parameters: Mapping[str, str], execution: Execution) -> dict[str, Any]:
    return {
        name.removesuffix(".$"): execution.arn
        if path == "$$.Execution.Id"
        else _at(path, execution.data)
        for name, path in parameters.items()
    }


def _at(path: str, data: Mapping[str, Any]) -> Any:
    value: Any = data
    for name in path.removeprefix("$.").split("."):
        value = value[name]
    return value


def _placed(path: str, data: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    return data | {path.removeprefix("$."): result}
