"""Which faults happen when. Pure: the same seed and length give the same schedule."""

import random
from dataclasses import dataclass
from enum import StrEnum

_FIRST = 2.0
# A fault begins about every two seconds and lasts for several, so that some always overlap.
_GAP = (1.0, 3.0)
_LASTS = (2.0, 8.0)
# Longer than lease and grace together: recovery has taken the batches when the owner wakes up.
_STALLS = (12.0, 16.0)
# S3 throttles around a stall's begin, so that it finds PUTs between two attempts: these land late.
_BEFORE_STALL = 1.0


class Kind(StrEnum):
    """What can go wrong."""

    WORKER_KILLED = "worker killed"
    TASK_KILLED = "task killed"
    TASK_STOPPED = "task stopped"
    WORKER_STALLED = "worker stalled"
    TASK_STALLED = "task stalled"
    S3_DOWN = "S3 down"
    S3_THROTTLING = "S3 throttling"
    S3_SILENT = "S3 silent"
    TABLES_THROTTLING = "DynamoDB throttling"
    TABLES_SILENT = "DynamoDB silent"
    LAMBDAS_CRASHING = "Lambdas crashing"
    S3_EVENTS_UNRELIABLE = "S3 events unreliable"
    JOB_EVENTS_UNRELIABLE = "job events unreliable"
    JOBS_FAILING = "jobs failing"
    JOBS_THROTTLED = "HealthImaging throttling"
    MANIFESTS_LATE = "result manifests late"


STALLS = frozenset({Kind.WORKER_STALLED, Kind.TASK_STALLED})


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: from ``at`` for ``seconds``. ``lot``, from 0 to 1, draws whom it hits."""

    at: float
    seconds: float
    kind: Kind
    lot: float


def plan(seed: int, seconds: float) -> tuple[Fault, ...]:
    """Every kind about equally often, in an order that changes."""
    chance = random.Random(f"{seed}/plan")
    faults: list[Fault] = []
    at = _FIRST
    while at < seconds:
        deck = list(Kind)
        chance.shuffle(deck)
        for kind in deck:
            lasts = chance.uniform(*(_STALLS if kind in STALLS else _LASTS))
            if kind in STALLS:
                throttling = Fault(at - _BEFORE_STALL, 2 * _BEFORE_STALL, Kind.S3_THROTTLING, 0.0)
                faults.append(throttling)
            faults.append(Fault(at, lasts, kind, chance.random()))
            at += chance.uniform(*_GAP)
    return tuple(fault for fault in faults if fault.at < seconds)
