"""What invokes each function, and how long Lambda may hold an invocation of a schedule back.

EventBridge invokes asynchronously. What is throttled then, Lambda tries again for up to six hours,
and what fails twice more: the invocations of a schedule would pile up, each for the work that the
first of them does. So one of a schedule waits no longer than until the next is due, and is not
repeated: the next does what it did not.
https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html
https://docs.aws.amazon.com/lambda/latest/api/API_PutFunctionEventInvokeConfig.html

HealthImaging's events (``EVENTS``) keep Lambda's own six hours and two repetitions: each comes once
and is work of its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass

_MINUTE, _HOUR = 60, 3_600
# Seconds between two invocations of a function that a schedule invokes. MaximumEventAgeInSeconds
# takes 60 at least.
SCHEDULES = {
    "announce_events": _MINUTE,
    "collect_dropbox": _MINUTE,
    "dispatch_imports": _MINUTE,
    "expire_objects": _HOUR,
    "reconcile": _HOUR,
    "recover_batches": _MINUTE,
}
EVENTS = ("on_image_set_event", "on_import_event")
TASKS = ("check_status", "record_failure", "start_import_job")
QUEUE = "trigger_import"
# As in app.py.
QUEUE_CONCURRENCY = 5


@dataclass(frozen=True, slots=True)
class AsyncConfig:
    """What PutFunctionEventInvokeConfig is to say of a function."""

    function: str
    maximum_age_seconds: int
    maximum_retries: int = 0


def async_configs() -> Iterator[AsyncConfig]:
    """Of the functions that a schedule invokes."""
    for function, period in SCHEDULES.items():
        yield AsyncConfig(function, period)
