"""From what was counted to dollars, by what it was for."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from bench.pipeline.assumptions import Timing
from bench.pipeline.ledger import LedgerUnits
from bench.pipeline.meter import Meter, memory_of
from bench.pipeline.prices import PRICES, Unit

_GB = 1_000_000_000
_HOURS = 24
# A Fargate task's size, as it is deployed by default.
_TASK_VCPU, _TASK_GB = 1, 2
# Lambda's own three lines with ours, and the receiver's for an association.
_LOG_BYTES_PER_INVOCATION, _LOG_BYTES_PER_ASSOCIATION = 900, 1_000
# Besides what the simulation runs, how often a day; each as short as a handler is.
_SCHEDULED = {
    "recover_batches": 60 * _HOURS,
    "collect_dropbox": 60 * _HOURS,
    "announce_events": 60 * _HOURS,
    "reconcile": _HOURS,
    "expire_objects": _HOURS,
}
# Of a batch's events: its study joined, looked at and settled, and itself taken through the index
# of what is due, each in the table and in the index; the items are below 1 KB. And an event each
# for the batch and the study.
_ANNOUNCED_UNITS, _EVENTS = 18, 2
# A lease is renewed after a third of 60 seconds, in the table and in its index.
_RENEWAL_SECONDS, _RENEWAL_UNITS = 20, 2
_KEYS_PER_LIST = 1_000
# All that a job of its own for each image needs; the reference's table of jobs is its only one.
_PER_IMAGE_FUNCTIONS = frozenset({"trigger_import", "start_import_job", "check_status"})
_PER_IMAGE_TABLES = frozenset({"jobs"})


class Purpose(StrEnum):
    """What a part of the bill is for."""

    WORKFLOW = "workflow: events, Lambdas, state machine, records of batches and jobs"
    LEDGER = "ledger: a row for each image"
    S3 = "S3 requests"
    RECEIVER = "receiver: Fargate and load balancer"
    LOGS = "logs"


Usage = Mapping[Unit, float]
Bill = Mapping[Purpose, Usage]


@dataclass(frozen=True, slots=True)
class Day:
    """What came in on a day; ``open_seconds`` is how long batches were open, all together."""

    images: int
    size: int
    associations: int
    open_seconds: float
    tasks: int


def dollars(usage: Usage) -> float:
    """What it costs."""
    return sum(count * PRICES[unit].each for unit, count in usage.items())


def bill_per_batch(meter: Meter, transitions: int, day: Day, ledger: LedgerUnits) -> Bill:
    """A day in our design, from all that was counted in it."""
    workflow = _workflow(meter, transitions, meter.invocations, meter.write_units)
    scheduled = sum(_SCHEDULED.values())
    workflow[Unit.LAMBDA_REQUEST] += scheduled
    workflow[Unit.LAMBDA_GB_SECOND] += sum(
        count * Timing().handler * memory_of(name) / 1_024 for name, count in _SCHEDULED.items()
    )
    batches = meter.invocations["trigger_import"]
    workflow[Unit.WRITE_UNIT] += batches * _ANNOUNCED_UNITS
    workflow[Unit.EVENT] = batches * _EVENTS
    workflow[Unit.WRITE_UNIT] += day.open_seconds / _RENEWAL_SECONDS * _RENEWAL_UNITS
    # Every image is put by the receiver and read by HealthImaging; both it and the sweep list it.
    puts = day.images + meter.s3["PUT"] + meter.s3["LIST"] + 2 * day.images / _KEYS_PER_LIST
    return {
        Purpose.WORKFLOW: workflow,
        Purpose.LEDGER: {
            Unit.WRITE_UNIT: ledger.write * day.images,
            Unit.READ_UNIT: ledger.read * day.images,
        },
        Purpose.S3: {Unit.S3_PUT: puts, Unit.S3_GET: day.images + meter.s3["GET"]},
        Purpose.RECEIVER: _receiver(day),
        Purpose.LOGS: _logs(meter.invocations.total() + scheduled, day),
    }


def bill_per_image(sample: Meter, transitions: int, jobs: int, day: Day) -> Bill:
    """A day in the other design, from a sample of ``jobs`` of one image each, none throttled."""
    share = day.images / jobs
    workflow = _workflow(sample, transitions, _PER_IMAGE_FUNCTIONS, _PER_IMAGE_TABLES)
    invocations = sum(sample.invocations[name] for name in _PER_IMAGE_FUNCTIONS)
    # The image and four result files; HealthImaging lists the prefix and reads it.
    puts, gets = 1 + 4 + 1, 1 + 4
    return {
        Purpose.WORKFLOW: {unit: count * share for unit, count in workflow.items()},
        Purpose.S3: {Unit.S3_PUT: puts * day.images, Unit.S3_GET: gets * day.images},
        Purpose.RECEIVER: _receiver(day),
        Purpose.LOGS: _logs(invocations * share, day),
    }


def storage(day: Day) -> float:
    """HealthImaging's first month of a day's images, before it compresses them; in both designs."""
    return dollars({Unit.STORED_GB_MONTH: day.size / _GB})


def _workflow(
    meter: Meter, transitions: int, functions: Iterable[str], tables: Iterable[str]
) -> dict[Unit, float]:
    functions, tables = set(functions), set(tables)
    return {
        Unit.SQS: meter.sqs_requests,
        Unit.LAMBDA_REQUEST: sum(meter.invocations[name] for name in functions),
        Unit.LAMBDA_GB_SECOND: sum(meter.gb_seconds[name] for name in functions),
        Unit.TRANSITION: transitions,
        Unit.WRITE_UNIT: sum(meter.write_units[name] for name in tables),
        Unit.READ_UNIT: sum(meter.read_units[name] for name in tables),
    }


def _receiver(day: Day) -> Usage:
    hours = _HOURS * day.tasks
    return {
        Unit.VCPU_HOUR: hours * _TASK_VCPU,
        Unit.MEMORY_GB_HOUR: hours * _TASK_GB,
        Unit.NLB_HOUR: _HOURS,
        # A unit is a GB an hour; connections and new ones stay far below theirs.
        Unit.NLCU_HOUR: day.size / _GB,
    }


def _logs(invocations: float, day: Day) -> Usage:
    size = invocations * _LOG_BYTES_PER_INVOCATION
    return {Unit.LOG_GB: (size + day.associations * _LOG_BYTES_PER_ASSOCIATION) / _GB}
