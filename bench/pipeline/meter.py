"""What AWS bills, counted while the product's own code runs."""

import functools
import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chalicelib.stores.schema import Index, Schema

from bench.pipeline.assumptions import Timing
from bench.pipeline.clock import VirtualClock

_CONFIG = Path(__file__).parents[2] / "chalice_app" / ".chalice" / "config.json"
# https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
_MEMORY_OF_A_VCPU = 1_769
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html
_WRITE_UNIT, _READ_UNIT = 1_024, 4_096


@dataclass(slots=True)
class Meter:
    """Requests and units, by whom or what they are for."""

    write_units: Counter[str] = field(default_factory=Counter)
    read_units: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    s3: Counter[str] = field(default_factory=Counter)
    sqs_requests: int = 0
    invocations: Counter[str] = field(default_factory=Counter)
    cold_starts: int = 0
    gb_seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def read(self, table: str, item: Mapping[str, Any], *, consistent: bool = True) -> None:
        """One item was read."""
        self.read_units[table] += read_units(item_bytes(item), consistent=consistent)


def item_bytes(item: Mapping[str, Any]) -> int:
    """About what DynamoDB counts: names and values, as text."""
    return sum(len(name) + len(str(value)) for name, value in item.items())


def read_units(size: int, *, consistent: bool) -> float:
    """For one read; half as many where it may be a moment old."""
    return math.ceil(size / _READ_UNIT) * (1.0 if consistent else 0.5)


def write_units(before: Mapping[str, Any] | None, after: Mapping[str, Any], table: Schema) -> int:
    """For one write and what follows from it in the table's indexes.

    An index is written where something changes that it shows; where its key changes, the entry is
    deleted and put again.
    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/GSI.html
    """
    units = _units(max(item_bytes(after), item_bytes(before or {})))
    for index in table.indexes:
        old, new = (_shown(item, index, table) for item in (before or {}, after))
        if old == new:
            continue
        moved = any(old.get(key) != new.get(key) for key in index.key)
        units += sum(_units(item_bytes(each)) for each in (old, new) if each and moved)
        units += 0 if moved else _units(max(item_bytes(old), item_bytes(new)))
    return units


def _shown(item: Mapping[str, Any], index: Index, table: Schema) -> dict[str, Any]:
    """An item as an index has it; nothing, if it lacks the index's key."""
    if not all(key in item for key in index.key):
        return {}
    return {name: item[name] for name in {*table.key, *index.key, *index.shows} if name in item}


def _units(size: int) -> int:
    return math.ceil(size / _WRITE_UNIT)


@functools.cache
def _stage() -> dict[str, Any]:
    stage: dict[str, Any] = json.loads(_CONFIG.read_text())["stages"]["dev"]
    return stage


def memory_of(function: str) -> int:
    """A Lambda's memory in MB, as it is deployed."""
    stage = _stage()
    memory: int = stage["lambda_functions"][function].get(
        "lambda_memory_size", stage["lambda_memory_size"]
    )
    return memory


class Lambdas:
    """The functions' environments: who finds one warm, and how long each is busy."""

    def __init__(self, clock: VirtualClock, timing: Timing, meter: Meter) -> None:
        self._clock = clock
        self._timing = timing
        self._meter = meter
        self._idle: dict[str, list[float]] = {}

    def seconds(self, name: str, cpu: float) -> float:
        """How long so many seconds of one vCPU last in a function, whose memory is its share."""
        return cpu * max(1.0, _MEMORY_OF_A_VCPU / memory_of(name))

    def invoke(
        self, name: str, before: float, work: Callable[[], None], then: Callable[[], None]
    ) -> None:
        """Run ``work``, which may sleep, ``before`` seconds into the handler, and ``then``."""
        cold = self._is_cold(name)
        self._meter.cold_starts += cold
        self._meter.invocations[name] += 1
        init = self._timing.lambda_cold if cold else 0.0
        begins = self._clock.seconds + self._timing.lambda_warm

        def run() -> None:
            work()
            busy = self._clock.seconds - begins
            self._meter.gb_seconds[name] += busy * memory_of(name) / 1_024
            self._idle.setdefault(name, []).append(self._clock.seconds)
            then()

        self._clock.at(begins + init + before, run)

    def _is_cold(self, name: str) -> bool:
        idle = self._idle.get(name, [])
        oldest = self._clock.seconds - self._timing.lambda_idle
        if not idle or idle[-1] < oldest:
            idle.clear()
            return True
        idle.pop()
        return False
