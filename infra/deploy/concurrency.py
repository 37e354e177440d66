"""Whether the account lets the functions run beside each other: its Lambda quota, and what is due.

A quota that is too small is a warning, and the deployment goes on: whatever is throttled comes
again, and is late. A reservation that AWS would refuse is an error: ``chalice deploy`` would fail
at it half way.
https://docs.aws.amazon.com/lambda/latest/dg/lambda-concurrency.html
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from chalicelib.settings import AdmissionSettings, ImportSettings

from infra.deploy.errors import DeployError
from infra.deploy.invocations import EVENTS, QUEUE, QUEUE_CONCURRENCY, SCHEDULES, TASKS
from infra.deploy.sections import FunctionSettings

# "Concurrent executions". https://docs.aws.amazon.com/general/latest/gr/lambda-service.html
QUOTA_CODE = "L-B99A9384"
# Lambda's own default, which new accounts may not have yet.
_USUAL_QUOTA = 1_000
# PutFunctionConcurrency leaves so many to the functions that reserve none; or all of a quota that
# is smaller. https://docs.aws.amazon.com/lambda/latest/api/API_PutFunctionConcurrency.html
_LEAST_UNRESERVED = 100
# What a start and the record of an import's end take together, and what a poll between them takes.
_START_AND_END_SECONDS, _POLL_SECONDS = 5, 1
# One that polls a study, beside a question.
_REST = 2


@dataclass(frozen=True, slots=True)
class Quota:
    """GetAccountSettings' AccountLimit: of the account in one Region, and what nobody reserved."""

    concurrent: int
    unreserved: int


@dataclass(frozen=True, slots=True)
class Demand:
    """So many executions at once, of which functions, and what becomes of one that is throttled."""

    what: str
    functions: tuple[str, ...]
    count: int
    throttled: str


def demands(environment: Mapping[str, str]) -> tuple[Demand, ...]:
    """What the deployment runs at once when there is much to import; from the table of the app.

    A schedule's function runs once: a second one finds the lock taken. The tasks are those of
    executions that start at START_RATE, and of MAX_CONCURRENT_JOBS that are asked about by turns.
    """
    admission, imports = AdmissionSettings.model_fields, ImportSettings.model_fields
    rate = float(environment.get("START_RATE", admission["start_rate"].default))
    jobs = int(environment.get("MAX_CONCURRENT_JOBS", admission["max_concurrent_jobs"].default))
    poll = int(environment.get("POLL_MIN_SECONDS", imports["poll_min_seconds"].default))
    tasks = ceil(rate * _START_AND_END_SECONDS) + ceil(jobs / poll * _POLL_SECONDS)
    return (
        Demand(
            "the schedules", tuple(SCHEDULES), len(SCHEDULES),
            "that turn is left out, the next one does its work",
        ),
        Demand(
            "the import queue", (QUEUE,), QUEUE_CONCURRENCY,
            "its messages come again; after five times they are dead letters: redrive",
        ),
        Demand(
            "running imports", TASKS, tasks,
            "the state machine tries again",
        ),
        Demand("HealthImaging's events", EVENTS, len(EVENTS), "Lambda tries again for six hours"),
        Demand("the REST API", ("api_handler",), _REST, "its caller is answered 5xx"),
    )  # fmt: skip


def shortage(
    quota: Quota,
    wanted: Sequence[Demand],
    functions: Mapping[str, FunctionSettings],
    region: str,
    held: int = 0,
) -> list[str]:
    """Lines that say what is short in ``region``, and what to do; none if nothing is.

    ``held`` is what this deployment's functions have reserved before: it is theirs to use. The
    quota to ask for has room for it, for what others have reserved, and for what Lambda does not
    let anybody reserve.
    """
    needed = sum(each.count for each in wanted)
    usable = quota.unreserved + held
    if usable >= needed:
        return []
    others = quota.concurrent - usable
    reserved = f", of which other functions have reserved {others}" if others else ""
    runs = f"Lambda runs {quota.concurrent} executions at once in this account and Region{reserved}"
    desired = max(_USUAL_QUOTA, others + needed + _LEAST_UNRESERVED)
    more = f"--quota-code {QUOTA_CODE} --region {region} --desired-value {desired}"
    return [
        f"{runs}; with much to import, this deployment needs {needed}. Others share them.",
        "Throttled then:",
        *(f"  {each.what} ({_at_once(each, functions)}): {each.throttled}" for each in wanted),
        "Nothing is lost by that, and imports are late. Ask for more before real traffic:",
        f"  aws service-quotas request-service-quota-increase --service-code lambda {more}",
    ]


def check_reservations(
    quota: Quota, functions: Mapping[str, FunctionSettings], held: Mapping[str, int]
) -> None:
    """Raises DeployError if AWS would refuse what the configuration reserves.

    ``held`` is what each function has reserved already.
    """
    more = sum(
        each.reserved_concurrency - held.get(name, 0)
        for name, each in functions.items()
        if each.reserved_concurrency is not None
    )
    least = min(_LEAST_UNRESERVED, quota.concurrent)
    if more > 0 and quota.unreserved - more < least:
        raise DeployError(
            f"The configuration reserves {more} more executions than now, and Lambda has to keep "
            f"{least} of {quota.concurrent} unreserved; {quota.unreserved} are.",
            "Take reserved_concurrency out of [functions.*], or ask for a higher quota "
            f"({QUOTA_CODE}) first.",
        )


def _at_once(demand: Demand, functions: Mapping[str, FunctionSettings]) -> str:
    """How many, and those of them that have executions reserved."""
    named = [
        f"{name} has {size.reserved_concurrency} reserved"
        for name in demand.functions
        if (size := functions.get(name)) is not None and size.reserved_concurrency is not None
    ]
    return "; ".join([f"{demand.count} at once", *named])
