"""The tables of a run, for the terminal and for docs/."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.pipeline.assumptions import Timing, assumptions
from bench.pipeline.costs import Bill, Purpose, dollars, storage
from bench.pipeline.prices import PRICES
from bench.pipeline.receiver import default_limits
from bench.pipeline.results import HospitalDay, LongQueue, Migration, PerImageDay
from bench.pipeline.scenarios import DURATION

_MONTH = 30
_MILLION = 1_000_000
_OURS, _PER_IMAGE = "one job per batch", "one job per image"
Days = Sequence[tuple[HospitalDay, PerImageDay]]


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table of texts."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def as_markdown(self) -> str:
        """Without its title. All columns but the first hold numbers or short texts."""
        lines = [self.head, tuple("---" for _ in self.head), *self.rows]
        return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def day_sheet(ours: HospitalDay, other: PerImageDay) -> Sheet:
    """A hospital's day in both designs."""
    counted = ours.counted
    started = other.images - other.storm.waiting
    calls = started + other.storm.throttled
    rows = (
        ("images", f"{counted.images:,}", f"{other.images:,}"),
        ("import jobs", f"{counted.jobs:,}", f"{other.images:,}"),
        ("StartDICOMImportJob calls on the day", f"{counted.start_calls:,}", f"{calls:,}"),
        ("of them throttled (429)", f"{counted.starts_throttled:,}", f"{other.storm.throttled:,}"),
        ("jobs at once, at most", f"{counted.most_at_once:,}", "-"),
        ("jobs started by midnight", *(f"{each.started_on_the_day:,}" for each in (ours, other))),
        ("the last one starts after", *(f"{each.last_start / 86_400:.1f} days"
                                        for each in (ours, other))),
        ("GetDICOMImportJob calls", f"{counted.polls:,}", "-"),
        ("state transitions, a job", f"{counted.transitions / counted.jobs:.1f}",
         f"{other.transitions:.1f} and each retry"),
        ("state transitions", f"{counted.transitions:,}",
         f"{other.transitions * other.images:,.0f} and each retry"),
        ("Lambda invocations", f"{counted.invocations:,}", "-"),
        ("association end to job's start, p50 / p99",
         _pair(ours.to_start), f"{_pair(other.to_start)} from an image's arrival"),
        ("association end to import done, p50 / p99", _pair(ours.to_done), "-"),
    )  # fmt: skip
    title = f"A day of a {ours.hospital.name} hospital: {ours.hospital.studies:,} studies"
    return Sheet(title, ("", _OURS, _PER_IMAGE), rows)


def migration_sheet(migration: Migration) -> Sheet:
    """What a migration came to."""
    counted = migration.counted
    images_a_job = counted.images / counted.jobs
    rows = (
        ("images", f"{counted.images:,}"),
        ("import jobs", f"{counted.jobs:,}, of {images_a_job:,.0f} images"),
        ("hours", f"{migration.hours:.1f}"),
        ("ceiling of the limits", _rate(migration.ceiling, images_a_job)),
        ("reached", f"{_rate(migration.jobs_per_second, images_a_job)}: {migration.share:.1%}"),
        ("StartDICOMImportJob calls", f"{counted.start_calls:,}"),
        ("of them throttled (429) / over the quota (402)",
         f"{counted.starts_throttled:,} / {counted.over_quota:,}"),
        ("jobs at once, at most", f"{counted.most_at_once}"),
        ("batches waiting, at most", f"{migration.longest_queue:,}"),
        ("state transitions / Lambda invocations",
         f"{counted.transitions:,} / {counted.invocations:,}"),
        ("dollars: workflow / ledger / S3 requests",
         " / ".join(f"{dollars(migration.bill[each]):,.2f}"
                    for each in (Purpose.WORKFLOW, Purpose.LEDGER, Purpose.S3))),
        ("one job per image, at one start a second", f"{counted.images / 86_400:,.0f} days"),
    )  # fmt: skip
    return Sheet(f"A migration of {counted.images:,} images", ("", _OURS), rows)


def queue_sheet(queues: Iterable[LongQueue]) -> Sheet:
    """Long queues, by how long HealthImaging takes for a job."""
    files = default_limits().max_files
    rows = tuple(
        (
            f"{each.duration.seconds(files):.0f} s",
            f"{each.waiting:,}",
            f"{each.ceiling:.3f}",
            f"{each.jobs_per_second:.3f}",
            f"{each.share:.1%}",
            _pair(each.modality_wait),
        )
        for each in queues
    )
    head = ("a job lasts", "waiting", "ceiling, jobs/s", "reached", "share",
            "a modality's batch waits, p50 / p99")  # fmt: skip
    return Sheet("A modality beside a long queue of a migration", head, rows)


def cost_sheet(days: Days) -> Sheet:
    """Dollars a day by what they are for, and a month."""
    rows = tuple(row for ours, other in days for row in _cost_rows(ours, other))
    head = ("hospital", "images a day", "design", "workflow", "ledger", "S3 requests", "receiver",
            "logs", "a day", "30 days", "HealthImaging, a day's images for a month")  # fmt: skip
    return Sheet("Dollars a day", head, rows)


def _cost_rows(ours: HospitalDay, other: PerImageDay) -> Iterable[tuple[str, ...]]:
    for design, bill in ((_OURS, ours.bill), (_PER_IMAGE, other.bill)):
        parts = [dollars(bill.get(purpose, {})) for purpose in Purpose]
        yield (
            f"{ours.hospital.name}, {ours.hospital.studies:,} studies",
            f"{ours.day.images:,}",
            design,
            *(f"{part:,.2f}" for part in parts),
            f"{sum(parts):,.2f}",
            f"{sum(parts) * _MONTH:,.0f}",
            f"{storage(ours.day):,.2f}",
        )


def service_sheet(ours: HospitalDay, other: PerImageDay) -> Sheet:
    """Dollars for a million images, by service."""
    columns = [_by_service(bill, ours.day.images) for bill in (ours.bill, other.bill)]
    rows = tuple(
        (service, *(f"{column.get(service, 0):,.2f}" for column in columns))
        for service in columns[0]
    )
    title = f"Dollars for a million images in the {ours.hospital.name} hospital, by service"
    return Sheet(title, ("", _OURS, _PER_IMAGE), rows)


def _by_service(bill: Bill, images: int) -> dict[str, float]:
    found: defaultdict[str, float] = defaultdict(float)
    for usage in bill.values():
        for unit, count in usage.items():
            found[unit.split(":")[0]] += count * PRICES[unit].each / images * _MILLION
    return dict(found)


def price_sheet() -> Sheet:
    """The list prices."""
    rows = tuple(
        (str(unit), f"{price.dollars:g}", f"{price.units:,}", price.source)
        for unit, price in PRICES.items()
    )
    return Sheet("List prices, us-east-1", ("what", "dollars", "for", "source"), rows)


def assumption_sheet() -> Sheet:
    """What stands in for what nobody published."""
    rows = tuple((each.name, each.value, each.source) for each in assumptions(DURATION, Timing()))
    return Sheet("Assumptions", ("what", "value", "source"), rows)


def _pair(values: tuple[float, float]) -> str:
    return " / ".join(_span(value) for value in values)


def _span(seconds: float) -> str:
    for size, name in ((86_400, "days"), (3_600, "h")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.1f} s"


def _rate(jobs: float, images: float) -> str:
    return f"{jobs:.3f} jobs/s, {jobs * images * 3_600 / _MILLION:.1f} M images/h"
