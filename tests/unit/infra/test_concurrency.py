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
from infra.deploy.config import Configuration
from infra.deploy.deployment import Deployment
from infra.deploy.errors import DeployError
from infra.deploy.invocations import (
    EVENTS,
    QUEUE,
    QUEUE_CONCURRENCY,
    SCHEDULES,
    TASKS,
    async_configs,
)
from infra.deploy.lambda_settings import LEAST_SECONDS, broken
from infra.deploy.policies import Place
from infra.deploy.sections import FunctionSettings

REGION = "eu-west-1"
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
    assert shortage(Quota(1_000, 1_000), WANTED, {}, REGION) == []
    assert shortage(Quota(NEEDED, NEEDED), WANTED, {}, REGION) == []
    assert shortage(Quota(NEEDED, NEEDED - 10), WANTED, {}, REGION, held=10) == []


def test_a_new_accounts_quota_of_10_is_named_with_what_is_throttled_and_what_to_do() -> None:
    lines = shortage(Quota(10, 10), WANTED, {"check_status": FunctionSettings()}, REGION)
    text = "\n".join(lines)
    assert "Lambda runs 10 executions at once" in lines[0]
    assert f"needs {NEEDED}." in lines[0]
    for each in WANTED:
        assert f"{each.what} ({each.count} at once): {each.throttled}" in text
    assert lines[-1].endswith(
        "--service-code lambda --quota-code L-B99A9384 --region eu-west-1 --desired-value 1000"
    )


def test_what_others_have_reserved_is_not_there_to_use() -> None:
    (first, *_) = shortage(Quota(1_000, 20), WANTED, {}, REGION)
    assert "of which other functions have reserved 980" in first
    sizes = {"check_status": FunctionSettings(reserved_concurrency=7)}
    text = "\n".join(shortage(Quota(1_000, 5), WANTED, sizes, REGION, held=7))
    assert "check_status has 7 reserved" in text
    assert "have reserved 988" in text


@pytest.mark.parametrize(
    ("concurrent", "others"), [(10, 0), (1_000, 980), (1_000, 999), (3_000, 2_990)]
)
def test_the_quota_to_ask_for_is_enough_and_never_what_the_account_has(
    concurrent: int, others: int
) -> None:
    *_, command = shortage(Quota(concurrent, concurrent - others), WANTED, {}, REGION)
    desired = int(command.rpartition(" ")[2])
    assert desired > concurrent
    assert shortage(Quota(desired, desired - others), WANTED, {}, REGION) == []
    assert desired - others - NEEDED >= 100  # what Lambda lets nobody reserve


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
        assert lambda_service.reserved("prod", ["api_handler"], REGION) is None


def test_of_a_function_that_is_not_there_nothing_is_reserved() -> None:
    def gone(**_: object) -> None:
        raise ClientError(
            {"Error": {"Code": "ResourceNotFoundException"}}, "GetFunctionConcurrency"
        )

    client = mock.Mock(get_function_concurrency=gone)
    with mock.patch.object(aws, "client", return_value=client):
        assert lambda_service.reserved("prod", ["api_handler"], REGION) == {"api_handler": 0}


def capacity(concurrent: int, unreserved: int) -> str:
    """What is said of an account in which 600 executions are to be this deployment's own."""
    limit = {"ConcurrentExecutions": concurrent, "UnreservedConcurrentExecutions": unreserved}
    client = mock.Mock(get_function_concurrency=_denied)
    client.get_account_settings.return_value = {"AccountLimit": limit}
    sizes = {"start_import_job": FunctionSettings(reserved_concurrency=600)}
    configuration = Configuration("prod", REGION, functions=sizes)
    with mock.patch.object(aws, "client", return_value=client):
        deployment = Deployment(configuration, (), Place("aws", REGION, "123456789012"))
        return " ".join(deployment.capacity())


def test_what_may_not_be_asked_is_not_checked_and_that_is_said() -> None:
    said = capacity(1_000, 400)  # the 600 are reserved already: another 600 would be refused
    assert "Not checked" in said
    assert "lambda:GetFunctionConcurrency" in said
    assert "reserved_concurrency" in said
    assert "service-quotas" not in said


def test_a_quota_that_is_too_small_whoever_has_reserved_of_it_is_said_all_the_same() -> None:
    said = capacity(NEEDED - 1, 0)
    assert "Not checked" in said
    assert f"Lambda runs {NEEDED - 1} executions at once in this account and Region;" in said


@pytest.mark.parametrize(
    ("reserved", "refused"), [(1, True), (QUEUE_CONCURRENCY - 1, True), (QUEUE_CONCURRENCY, False)]
)
def test_the_queues_consumer_reserves_no_fewer_than_the_queue_invokes(
    reserved: int, refused: bool
) -> None:
    said = list(broken({}, {QUEUE: FunctionSettings(reserved_concurrency=reserved)}))
    assert bool(said) == refused
    assert all(f"reserved_concurrency = {reserved}: at least 5" in each for each in said)
    assert list(broken({}, {"check_status": FunctionSettings(reserved_concurrency=1)})) == []
