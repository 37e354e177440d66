"""Turns the plan into weather, signals, options and deeds, on time."""

import time
from collections import Counter
from collections.abc import Collection, Set
from dataclasses import dataclass, field, replace
from functools import partial
from operator import itemgetter
from typing import Any

from local import names
from local.cloud import Cloud
from local.healthimaging import EmulatorOptions, QuotaProfile
from local.roads import RELIABLE, EventFaults
from tests.chaos.crashes import Crashes
from tests.chaos.deeds import Archive, delete_image_sets, stop_executions
from tests.chaos.fleet import Fleet
from tests.chaos.outages import Outages
from tests.chaos.plan import STALLS, Fault, Kind
from tests.chaos.weather import Ban, Endpoint, Weather

# No page tells how long a clientToken is remembered: here not for as long as any retry takes.
CALM_JOBS = EmulatorOptions(
    quota_profile=QuotaProfile.NONE,
    seconds_submitted=0.2,
    seconds_per_job=0.5,
    seconds_per_deletion=1.0,
    client_token_seconds=0.5,
)
_UNRELIABLE = EventFaults(lost=0.3, twice=0.2, late=0.3, late_seconds=6.0)
# That an image set was deleted, nothing else tells before somebody sends its instances again: these
# events do come, sooner or later, and again where Lambda failed on one.
_LATE = EventFaults(twice=0.3, late=0.7, late_seconds=6.0)
_CRASHES = 0.05
_FAILING_JOBS = 2
_LOST_ANSWERS = 3
_LONG_JOBS = 1
# Longer than IMPORT_MAX_AGE_SECONDS may be.
_LONG_SECONDS = 70.0
_DENIED_SHARE = 0.2


# What each service does in a fault of its own.
_WEATHER: dict[Kind, tuple[str, Weather]] = {
    Kind.S3_DOWN: ("s3", Weather(refused=1.0)),
    Kind.S3_THROTTLING: ("s3", Weather(throttled=0.6)),
    Kind.S3_SILENT: ("s3", Weather(stalled=0.1, unanswered=0.2)),
    Kind.S3_DENIED: ("s3", Weather(denied=1.0)),
    Kind.TABLES_THROTTLING: ("dynamodb", Weather(throttled=0.5)),
    Kind.TABLES_SILENT: ("dynamodb", Weather(stalled=0.1, unanswered=0.2)),
    Kind.TABLES_DENIED: ("dynamodb", Weather(denied=1.0)),
    Kind.QUEUES_DENIED: ("sqs", Weather(denied=1.0)),
    Kind.EXECUTIONS_DENIED: ("states", Weather(denied=1.0)),
    Kind.EVENTS_DENIED: ("events", Weather(denied=1.0)),
    Kind.JOBS_DENIED: ("medical-imaging", Weather(denied=1.0)),
    Kind.JOBS_AWAY: ("medical-imaging", Weather(refused=1.0)),
    Kind.ANSWERS_LOST: ("medical-imaging", Weather(unanswered=0.5)),
}
# The Lambdas' way to S3 only: receivers go on, and what they store waits.
_LAMBDAS_WEATHER = {Kind.S3_AWAY: ("s3", Weather(refused=1.0))}


def weather_in(kinds: Set[Kind], *, lambdas: bool = False) -> dict[str, Weather]:
    """Each service's weather while these faults last, as receivers or Lambdas have it."""
    weather: dict[str, Weather] = {}
    for kind, (service, fault) in (_WEATHER | (_LAMBDAS_WEATHER if lambdas else {})).items():
        if kind in kinds:
            weather[service] = weather.get(service, Weather()) | fault
    return weather


def jobs_in(fault: Fault) -> EmulatorOptions | None:
    """HealthImaging's mood from a fault on, until its next one; None if it is not concerned."""
    changes: dict[Kind, dict[str, Any]] = {
        Kind.JOBS_FAILING: {"failing_jobs": _FAILING_JOBS},
        Kind.JOBS_THROTTLED: {"throttled_seconds": fault.seconds},
        Kind.JOBS_LONG: {"slow_jobs": _LONG_JOBS, "slow_seconds": _LONG_SECONDS},
        Kind.MANIFESTS_LATE: {"manifest_lag_seconds": fault.seconds},
        Kind.RESULTS_AHEAD: {"manifest_lag_seconds": fault.seconds, "summary_ahead": True},
        Kind.ANSWERS_LOST: {"lost_answers": _LOST_ANSWERS},
    }
    return replace(CALM_JOBS, **changes[fault.kind]) if fault.kind in changes else None


def unread_in(fault: Fault) -> Ban | None:
    """Which of the instances the Lambdas may not read while a fault lasts, if any."""
    if fault.kind is Kind.S3_DENIED:
        return Ban(names.DICOM_BUCKET)
    bans = bans_in([fault])
    return bans[0] if bans and bans[0].bucket == names.DICOM_BUCKET else None


def bans_in(faults: Collection[Fault]) -> list[Ban]:
    """The objects that these faults keep from everybody."""
    bans = []
    for fault in faults:
        if fault.kind is Kind.OBJECTS_DENIED:
            bans.append(Ban(names.DICOM_BUCKET, _DENIED_SHARE, str(fault.lot)))
        elif fault.kind is Kind.RESULTS_DENIED:
            bans.append(Ban(names.RESULTS_BUCKET))
    return bans


@dataclass(slots=True)
class Storm:
    """What the plan's faults are done to. ``counts`` says how often each kind was.

    Of what is archived, some stays so when the storm is over.
    """

    cloud: Cloud
    fleet: Fleet
    receivers: Endpoint
    lambdas: Endpoint
    crashes: Crashes
    archive: Archive
    counts: Counter[Kind] = field(default_factory=Counter)
    deleted: int = 0
    stopped: int = 0
    outages: Outages = field(default_factory=Outages)
    _active: dict[int, Fault] = field(default_factory=dict)

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
        self.outages.end_all()
        self.fleet.wake_all()
        self.cloud.emulator.configure(CALM_JOBS)

    def _begin(self, number: int, fault: Fault) -> None:
        self.counts[fault.kind] += 1
        self._active[number] = fault
        match fault.kind:
            case Kind.TASK_KILLED:
                self.fleet.kill_task(fault.lot)
            case Kind.TASK_STOPPED:
                self.fleet.stop_task(fault.lot)
            case Kind.WORKER_KILLED:
                self.fleet.kill_worker(fault.lot)
            case Kind.WORKER_STALLED | Kind.TASK_STALLED:
                self.fleet.stall(number, fault.lot, whole=fault.kind is Kind.TASK_STALLED)
            case Kind.OBJECTS_ARCHIVED:
                self.archive.fill(str(fault.lot))
            case Kind.EXECUTIONS_STOPPED:
                self.stopped += stop_executions(self.cloud.aws_url, str(fault.lot))
            case Kind.IMAGE_SETS_DELETED:
                self.deleted += delete_image_sets(str(fault.lot))
        if options := jobs_in(fault):
            self.cloud.emulator.configure(options)
        if ban := unread_in(fault):
            self.outages.begin(number, partial(ban.hits, names.DICOM_BUCKET))
        self._apply()

    def _end(self, number: int, fault: Fault) -> None:
        del self._active[number]
        if fault.kind in STALLS:
            self.fleet.wake(number)
        elif fault.kind is Kind.OBJECTS_ARCHIVED:
            self.archive.thin(str(fault.lot))
        self._apply()
        self.outages.end(number)

    def _apply(self) -> None:
        active = {fault.kind for fault in self._active.values()}
        self.receivers.weather = weather_in(active)
        self.lambdas.weather = weather_in(active, lambdas=True)
        self.lambdas.bans = bans_in(self._active.values())
        self.crashes.chance = _CRASHES if Kind.LAMBDAS_CRASHING in active else 0.0
        for road, kind, faults in (
            (self.cloud.queue_road, Kind.S3_EVENTS_UNRELIABLE, _UNRELIABLE),
            (self.cloud.event_road, Kind.JOB_EVENTS_UNRELIABLE, _UNRELIABLE),
            (self.cloud.deletion_road, Kind.JOB_EVENTS_UNRELIABLE, _LATE),
        ):
            road.faults = faults if kind in active else RELIABLE


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))
