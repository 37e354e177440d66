"""Turns the plan into weather, signals and options, on time."""

import time
from collections import Counter
from collections.abc import Set
from dataclasses import dataclass, field, replace
from operator import itemgetter

from local.cloud import Cloud
from local.healthimaging import EmulatorOptions, QuotaProfile
from local.roads import RELIABLE, EventFaults
from tests.chaos.crashes import Crashes
from tests.chaos.fleet import Fleet
from tests.chaos.plan import STALLS, Fault, Kind
from tests.chaos.weather import Endpoint, Weather

CALM_JOBS = EmulatorOptions(
    quota_profile=QuotaProfile.NONE, seconds_submitted=0.2, seconds_per_job=0.5
)
_UNRELIABLE = EventFaults(lost=0.3, twice=0.2, late=0.3, late_seconds=6.0)
_CRASHES = 0.05
_FAILING_JOBS = 2


def weather_in(kinds: Set[Kind]) -> dict[str, Weather]:
    """Both services' weather while these faults last."""
    down = 1.0 if Kind.S3_DOWN in kinds else 0.0
    silent, throttled = Kind.S3_SILENT in kinds, Kind.S3_THROTTLING in kinds
    s3 = Weather(0.6 * throttled, down, 0.1 * silent, 0.2 * silent)
    silent, throttled = Kind.TABLES_SILENT in kinds, Kind.TABLES_THROTTLING in kinds
    tables = Weather(0.5 * throttled, 0.0, 0.1 * silent, 0.2 * silent)
    return {"s3": s3, "dynamodb": tables}


def jobs_in(fault: Fault) -> EmulatorOptions | None:
    """HealthImaging's mood from a fault on, until its next one; None if it is not concerned."""
    match fault.kind:
        case Kind.JOBS_FAILING:
            return replace(CALM_JOBS, failing_jobs=_FAILING_JOBS)
        case Kind.JOBS_THROTTLED:
            return replace(CALM_JOBS, throttled_seconds=fault.seconds)
        case Kind.MANIFESTS_LATE:
            return replace(CALM_JOBS, manifest_lag_seconds=fault.seconds)
        case _:
            return None


@dataclass(slots=True)
class Storm:
    """What the plan's faults are done to. ``counts`` says how often each kind was."""

    cloud: Cloud
    fleet: Fleet
    endpoints: tuple[Endpoint, ...]
    crashes: Crashes
    counts: Counter[Kind] = field(default_factory=Counter)
    _active: Counter[Kind] = field(default_factory=Counter)

    def rage(self, faults: tuple[Fault, ...], seconds: float) -> None:
        """Do it all, then stop it all."""
        began = time.monotonic()
        begins = [(fault.at, number, self._begin) for number, fault in enumerate(faults)]
        ends = [(fault.at + fault.seconds, n, self._end) for n, fault in enumerate(faults)]
        for at, number, act in sorted([*begins, *ends], key=itemgetter(0)):
            if at < seconds:
                _sleep_until(began + at)
                act(number, faults[number])
        _sleep_until(began + seconds)
        self.calm()

    def calm(self) -> None:
        """Nothing goes wrong any more."""
        self._active.clear()
        self._apply()
        self.fleet.wake_all()
        self.cloud.emulator.configure(CALM_JOBS)

    def _begin(self, number: int, fault: Fault) -> None:
        self.counts[fault.kind] += 1
        self._active[fault.kind] += 1
        if fault.kind is Kind.TASK_KILLED:
            self.fleet.kill_task(fault.lot)
        elif fault.kind is Kind.TASK_STOPPED:
            self.fleet.stop_task(fault.lot)
        elif fault.kind is Kind.WORKER_KILLED:
            self.fleet.kill_worker(fault.lot)
        elif fault.kind in STALLS:
            self.fleet.stall(number, fault.lot, whole=fault.kind is Kind.TASK_STALLED)
        elif options := jobs_in(fault):
            self.cloud.emulator.configure(options)
        else:
            self._apply()

    def _end(self, number: int, fault: Fault) -> None:
        self._active[fault.kind] -= 1
        if fault.kind in STALLS:
            self.fleet.wake(number)
        else:
            self._apply()

    def _apply(self) -> None:
        active = {kind for kind, count in self._active.items() if count}
        for endpoint in self.endpoints:
            endpoint.weather = weather_in(active)
        self.crashes.chance = _CRASHES if Kind.LAMBDAS_CRASHING in active else 0.0
        for road, kind in (
            (self.cloud.queue_road, Kind.S3_EVENTS_UNRELIABLE),
            (self.cloud.event_road, Kind.JOB_EVENTS_UNRELIABLE),
        ):
            road.faults = _UNRELIABLE if kind in active else RELIABLE


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))
