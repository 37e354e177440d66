"""Which faults happen when. Pure: the same seed and length give the same schedule."""

import random
from dataclasses import dataclass
from enum import StrEnum

_FIRST = 2.0
# A fault begins about every two seconds and lasts for several, so that some always overlap.
_GAP = (1.3, 2.9)
_LASTS = (2.0, 8.0)
# Longer than lease and grace together: recovery has taken the batches when the owner wakes up.
_STALLS = (12.0, 16.0)
# Longer than all retries of a run together: see tests.chaos.haste.
_LONG = (10.0, 13.0)
# S3 throttles around a stall's begin, so that it finds PUTs between two attempts: these land late.
_BEFORE_STALL = 1.0


class Kind(StrEnum):
    """What can go wrong.

    *Denied* is 403, which no repetition changes; *archived* objects stay so behind the fault, some
    of them until the storm is over; *away* is an outage that is longer than every retry.
    """

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
    JOB_EVENTS_UNRELIABLE = "HealthImaging's events unreliable"
    JOBS_FAILING = "jobs failing"
    JOBS_THROTTLED = "HealthImaging throttling"
    MANIFESTS_LATE = "result manifests late"
    RESULTS_AHEAD = "results' summary ahead"
    JOBS_LONG = "long jobs"
    ANSWERS_LOST = "HealthImaging's answers lost"
    IMAGE_SETS_DELETED = "image sets deleted"
    EXECUTIONS_STOPPED = "executions stopped"
    OBJECTS_ARCHIVED = "objects archived"
    OBJECTS_DENIED = "objects denied"
    RESULTS_DENIED = "results denied"
    S3_DENIED = "S3 denied"
    TABLES_DENIED = "DynamoDB denied"
    QUEUES_DENIED = "SQS denied"
    EXECUTIONS_DENIED = "Step Functions denied"
    EVENTS_DENIED = "EventBridge denied"
    JOBS_DENIED = "HealthImaging denied"
    S3_AWAY = "S3 away from the Lambdas for long"
    JOBS_AWAY = "HealthImaging away for long"


STALLS = frozenset({Kind.WORKER_STALLED, Kind.TASK_STALLED})
_DURATIONS = {
    Kind.WORKER_STALLED: _STALLS,
    Kind.TASK_STALLED: _STALLS,
    Kind.S3_AWAY: _LONG,
    Kind.JOBS_AWAY: _LONG,
}


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
            lasts = chance.uniform(*_DURATIONS.get(kind, _LASTS))
            if kind in STALLS:
                throttling = Fault(at - _BEFORE_STALL, 2 * _BEFORE_STALL, Kind.S3_THROTTLING, 0.0)
                faults.append(throttling)
            faults.append(Fault(at, lasts, kind, chance.random()))
            at += chance.uniform(*_GAP)
    return tuple(fault for fault in faults if fault.at < seconds)
