"""Lambda's quota against what the deployment runs at once, as values; and what invokes what."""

from typing import Any
from unittest import mock

import app
import pytest
from botocore.exceptions import ClientError
from chalice.app import CloudWatchEventConfig, Rate, ScheduledEventConfig, SQSEventConfig

from infra.deploy import aws, lambda_service
from infra.deploy.chalice_stage import base, functions
from infra.deploy.concurrency import Quota, check_reservations, demands, shortage
from infra.deploy.errors import DeployError
from infra.deploy.invocations import (
    EVENTS,
    QUEUE,
    QUEUE_CONCURRENCY,
    SCHEDULES,
    TASKS,
    async_configs,
)
from infra.deploy.lambda_settings import LEAST_SECONDS
from infra.deploy.sections import FunctionSettings

WANTED = demands({})
NEEDED = sum(each.count for each in WANTED)
_SECONDS = {Rate.MINUTES: 60, Rate.HOURS: 3_600}


def sources(kind: type[Any]) -> list[Any]:
    return [each for each in app.app.event_sources if isinstance(each, kind)]


def period(rate: Any) -> int:
    return int(rate.value) * _SECONDS[rate.unit]


def test_the_table_of_schedules_is_what_the_app_says() -> None:
    scheduled = sources(ScheduledEventConfig)
    assert {each.name: period(each.schedule_expression) for each in scheduled} == SCHEDULES
    assert sorted(EVENTS) == sorted(each.name for each in sources(CloudWatchEventConfig))
    assert sorted(TASKS) == sorted(each.name for each in app.app.pure_lambda_functions)
    named = {*SCHEDULES, *EVENTS, *TASKS, QUEUE, "api_handler"}
    assert named == functions()


def test_the_queue_invokes_as_many_at_once_as_the_plan_counts() -> None:
    (mapping,) = sources(SQSEventConfig)
    assert (mapping.name, mapping.maximum_concurrency) == (QUEUE, QUEUE_CONCURRENCY)
    assert mapping.maximum_concurrency >= 2  # SQS's least


def test_an_invocation_of_a_schedule_waits_no_longer_than_for_the_next() -> None:
    told = {each.function: each for each in async_configs()}
    assert told.keys() == SCHEDULES.keys()
    for name, each in told.items():
        assert (each.maximum_age_seconds, each.maximum_retries) == (SCHEDULES[name], 0)
        assert each.maximum_age_seconds >= 60  # Lambda's least
    assert not told.keys() & {*EVENTS}  # they must not be lost


def test_every_function_has_the_time_for_the_least_that_it_begins() -> None:
    (stage,) = base()["stages"].values()
    given = {
        name: each.get("lambda_timeout", stage["lambda_timeout"])
        for name, each in stage["lambda_functions"].items()
    }
    assert all(given[name] >= least for name, least in LEAST_SECONDS.items())
    assert {*SCHEDULES, QUEUE} == LEAST_SECONDS.keys()


def test_an_account_of_1000_has_nothing_short() -> None:
    assert shortage(Quota(1_000, 1_000), WANTED, {}) == []
    assert shortage(Quota(NEEDED, NEEDED), WANTED, {}) == []
    assert shortage(Quota(NEEDED, NEEDED - 10), WANTED, {}, held=10) == []


def test_a_new_accounts_quota_of_10_is_named_with_what_is_throttled_and_what_to_do() -> None:
    lines = shortage(Quota(10, 10), WANTED, {"check_status": FunctionSettings()})
    text = "\n".join(lines)
    assert "Lambda runs 10 executions at once" in lines[0]
    assert f"needs {NEEDED}." in lines[0]
    for each in WANTED:
        assert f"{each.what} ({each.count} at once): {each.throttled}" in text
    assert "--service-code lambda --quota-code L-B99A9384 --desired-value 1000" in text


def test_what_others_have_reserved_is_not_there_to_use() -> None:
    (first, *_) = shortage(Quota(1_000, 20), WANTED, {})
    assert "of which other functions have reserved 980" in first
    sizes = {"check_status": FunctionSettings(reserved_concurrency=7)}
    text = "\n".join(shortage(Quota(1_000, 5), WANTED, sizes, held=7))
    assert "check_status has 7 reserved" in text
    assert "have reserved 988" in text


def test_what_is_needed_follows_the_settings() -> None:
    slow = {"START_RATE": "0.25", "MAX_CONCURRENT_JOBS": "20", "POLL_MIN_SECONDS": "20"}
    fewer = sum(each.count for each in demands(slow))
    assert fewer == NEEDED - (5 + 7) + (2 + 1)


@pytest.mark.parametrize(
    ("quota", "reserve", "held", "refused"),
    [
        (Quota(1_000, 1_000), 900, 0, False),
        (Quota(1_000, 1_000), 901, 0, True),
        (Quota(1_000, 100), 10, 10, False),  # it has them already
        (Quota(1_000, 100), 11, 10, True),
        (Quota(10, 10), 1, 0, True),
        (Quota(50, 50), 1, 0, True),
    ],
)
def test_a_reservation_that_aws_would_refuse_is_refused_before_anything_is_done(
    quota: Quota, reserve: int, held: int, refused: bool
) -> None:
    sizes = {"api_handler": FunctionSettings(reserved_concurrency=reserve)}
    if not refused:
        check_reservations(quota, sizes, {"api_handler": held})
        return
    with pytest.raises(DeployError, match=f"keep {min(100, quota.concurrent)} of") as error:
        check_reservations(quota, sizes, {"api_handler": held})
    assert "reserved_concurrency" in error.value.remedy


def _denied(**_: object) -> None:
    raise ClientError({"Error": {"Code": "AccessDeniedException"}}, "GetAccountSettings")


def test_a_quota_that_may_not_be_read_stops_nothing() -> None:
    client = mock.Mock(get_account_settings=_denied, get_function_concurrency=_denied)
    with mock.patch.object(aws, "client", return_value=client):
        assert lambda_service.quota("eu-west-1") is None
        assert lambda_service.reserved("prod", ["api_handler"], "eu-west-1") == {"api_handler": 0}
