"""What is simulated: a hospital's day in both designs, a migration, and a long queue."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, cycle

from chalicelib.imports.rows import opened

from bench.pipeline.account import LIMITS, REGION
from bench.pipeline.assumptions import ImportDuration, Timing
from bench.pipeline.clock import START
from bench.pipeline.costs import Day, bill_per_batch, bill_per_image
from bench.pipeline.hospital import LARGE, Hospital, day
from bench.pipeline.ledger import ledger_units
from bench.pipeline.machine import DEFINITION
from bench.pipeline.per_image import arrivals, best_starts, start_rate, storm
from bench.pipeline.pipeline import Pipeline
from bench.pipeline.receiver import (
    ClosedBatch,
    association_ends,
    batches,
    default_limits,
    mixed_batches,
    renamed,
)
from bench.pipeline.results import Counted, HospitalDay, LongQueue, Migration, PerImageDay
from bench.pipeline.stats import percentile
from contract.manifest import CloseReason
from contract.records import BatchState

DURATION = ImportDuration()
_TIMING = Timing()
_DAY, _QUARTERS = 86_400.0, 96
# Until the first jobs have ended and the functions are warm.
_RAMP_SECONDS = 900.0
# A little more than HealthImaging takes, so that a queue forms and grows.
_FEED = 1.05
# A queue that comes at once, as fast as its events do.
_BURST_RATE = 100.0
_CT_BYTES = 530_000
_SAMPLE = 50


def ceiling(duration: ImportDuration, files: Sequence[int]) -> float:
    """The most jobs a second the published limits allow, whoever asks, for batches like these."""
    mean = sum(duration.seconds(each) for each in files) / len(files)
    at_once = LIMITS.import_jobs_in(REGION) or 0
    return min(start_rate().per_second, at_once / mean)


def hospital_day(hospital: Hospital, seed: int) -> HospitalDay:
    """Our design."""
    studies = day(hospital, seed)
    fed = list(batches(studies, default_limits(), hospital.tasks, seed))
    pipeline = Pipeline(DURATION, _TIMING, seed)
    pipeline.run(fed)
    ends = {name: end for study in studies for name, end in association_ends(study).items()}
    what = Day(
        images=sum(study.images for study in studies),
        size=sum(study.images * study.size for study in studies),
        associations=len(ends),
        open_seconds=sum(map(_open_seconds, fed)),
        tasks=hospital.tasks,
    )
    done, started = pipeline.tally.done, pipeline.jobs.started_at
    return HospitalDay(
        hospital=hospital,
        counted=_counted(pipeline, fed),
        to_done=_waits(fed, ends, done),
        to_start=_waits(fed, ends, started),
        started_on_the_day=sum(start < _DAY for start in started.values()),
        last_start=max(started.values()),
        imported=by_quarter((done[each.batch_id], each.files) for each in fed),
        day=what,
        bill=bill_per_batch(
            pipeline.meter, pipeline.machine.transitions.total(), what, ledger_units()
        ),
    )


def per_image_day(ours: HospitalDay, seed: int) -> PerImageDay:
    """The other design, on the same day."""
    images = arrivals(day(ours.hospital, seed))
    starts = best_starts(images)
    waits = [start - arrived for start, arrived in zip(starts, images, strict=True)]
    rule = json.loads(DEFINITION.read_text())["States"]["StartImportJob"]["Retry"][1]
    sample = _single_images(seed)
    jobs, transitions = sample.jobs.started, sample.machine.transitions.total()
    return PerImageDay(
        images=len(images),
        started_on_the_day=sum(start < _DAY for start in starts),
        last_start=starts[-1],
        to_start=(percentile(waits, 0.5), percentile(waits, 0.99)),
        storm=storm(images, rule),
        transitions=transitions / jobs,
        received=by_quarter((arrived, 1) for arrived in images),
        started=by_quarter((start, 1) for start in starts),
        bill=bill_per_image(sample.meter, transitions, jobs, ours.day),
    )


def migration(images: int, studies: int, seed: int) -> Migration:
    """``images`` in mixed batches, which are made of so many studies and then repeated."""
    templates = list(mixed_batches(day(replace(LARGE, studies=studies), seed), default_limits()))
    most = ceiling(DURATION, [each.files for each in templates])
    fed = list(_fed(templates, images, 1 / (most * _FEED)))
    pipeline = Pipeline(DURATION, _TIMING, seed)
    pipeline.run(fed)
    started, transitions = pipeline.jobs.started_at, pipeline.machine.transitions.total()
    what = Day(images, sum(each.size for each in fed), 0, 0.0, 0)
    return Migration(
        counted=_counted(pipeline, fed),
        ceiling=most,
        jobs_per_second=_rate(started, fed, DURATION, _RAMP_SECONDS, fed[-1].closed_at),
        hours=max(pipeline.tally.done.values()) / 3_600,
        longest_queue=max(waiting for _, waiting in pipeline.tally.waiting),
        bill=bill_per_batch(pipeline.meter, transitions, what, ledger_units()),
    )


def _fed(templates: Sequence[ClosedBatch], images: int, gap: float) -> Iterator[ClosedBatch]:
    """The templates again and again, ``gap`` seconds apart, until there are enough images."""
    for number, template in enumerate(cycle(templates)):
        files = min(images, template.files)
        size = template.size // template.files * files
        yield renamed(replace(template, files=files, size=size), number, number * gap)
        images -= files
        if not images:
            return


def long_queue(
    waiting: int,
    duration: ImportDuration,
    seconds: float,
    seed: int,
    ramp: float = _RAMP_SECONDS,
) -> LongQueue:
    """``waiting`` full batches at once, and a modality that closes one each minute.

    What is measured are ``seconds`` after the ``ramp``, which is longer where jobs are.
    """
    full = default_limits().max_files
    batch = ClosedBatch("", 0.0, "MIGRATION", full, full * _CT_BYTES, CloseReason.FULL, ())
    queue = [renamed(batch, number, number / _BURST_RATE) for number in range(waiting)]
    ramp = max(ramp, 1.5 * duration.seconds(full))
    until = ramp + seconds
    modality = replace(batch, calling_ae_title="CT1", files=500, size=500 * _CT_BYTES)
    studies = [
        renamed(modality, waiting + number, ramp + number * 60.0)
        for number in range(int(seconds / 60))
    ]
    pipeline = Pipeline(duration, _TIMING, seed)
    pipeline.run(queue + studies, until)
    started = pipeline.jobs.started_at
    waits = [started.get(each.batch_id, until) - each.closed_at for each in studies]
    return LongQueue(
        waiting=waiting,
        duration=duration,
        ceiling=ceiling(duration, [full]),
        jobs_per_second=_rate(started, queue + studies, duration, ramp, until),
        modality_wait=(percentile(waits, 0.5), percentile(waits, 0.99)),
    )


def by_quarter(events: Iterable[tuple[float, int]]) -> tuple[int, ...]:
    """How many had happened by the end of each quarter of an hour of the day."""
    counts = [0] * _QUARTERS
    for moment, number in events:
        if moment < _DAY:
            counts[int(moment / _DAY * _QUARTERS)] += number
    return tuple(accumulate(counts))


def _single_images(seed: int) -> Pipeline:
    """Our own code for batches of one image, far enough apart to stay unthrottled."""
    one = ClosedBatch("", 0.0, "CT1", 1, _CT_BYTES, CloseReason.QUIET, ())
    pipeline = Pipeline(DURATION, _TIMING, seed)
    pipeline.run([renamed(one, number, 10.0 * number) for number in range(_SAMPLE)])
    return pipeline


def _waits(
    fed: Iterable[ClosedBatch], ends: Mapping[str, float], times: Mapping[str, float]
) -> tuple[float, float]:
    """Median and 99th percentile from an association's end to the last of its batches' times."""
    last: dict[str, float] = {}
    for batch in fed:
        for name in batch.associations:
            last[name] = max(last.get(name, 0.0), times[batch.batch_id])
    waits = [last[name] - end for name, end in ends.items()]
    return percentile(waits, 0.5), percentile(waits, 0.99)


def _open_seconds(batch: ClosedBatch) -> float:
    opened_at = opened(batch.batch_id)
    return batch.closed_at - (opened_at - START).total_seconds() if opened_at else 0.0


def _rate(
    started_at: Mapping[str, float],
    fed: Iterable[ClosedBatch],
    duration: ImportDuration,
    since: float,
    until: float,
) -> float:
    """Jobs a second, each counted for the part of it that ran then: they come in waves."""
    done = 0.0
    for batch in fed:
        start, seconds = started_at.get(batch.batch_id, until), duration.seconds(batch.files)
        done += max(0.0, min(start + seconds, until) - max(start, since)) / seconds
    return done / (until - since)


def _counted(pipeline: Pipeline, fed: Sequence[ClosedBatch]) -> Counted:
    jobs, start, look = pipeline.jobs, "StartDICOMImportJob", "GetDICOMImportJob"
    return Counted(
        images=sum(each.files for each in fed),
        imported=pipeline.tally.images[BatchState.IMPORTED],
        jobs=jobs.started,
        start_calls=jobs.accepted[start] + jobs.throttled[start],
        starts_throttled=jobs.throttled[start],
        over_quota=jobs.over_quota,
        most_at_once=jobs.most_live,
        polls=jobs.accepted[look] + jobs.throttled[look],
        polls_throttled=jobs.throttled[look],
        transitions=pipeline.machine.transitions.total(),
        invocations=pipeline.meter.invocations.total(),
    )
