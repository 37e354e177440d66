"""What Lambda itself is asked, and told beside what Chalice tells it."""

from collections.abc import Iterable

from botocore.exceptions import ClientError

from infra.deploy import aws
from infra.deploy.chalice_stage import function_name
from infra.deploy.concurrency import Quota
from infra.deploy.invocations import AsyncConfig

_DENIED = frozenset({"AccessDenied", "AccessDeniedException"})


def quota(region: str) -> Quota | None:
    """The account's concurrency; None where these credentials may not ask for it.

    https://docs.aws.amazon.com/lambda/latest/api/API_GetAccountSettings.html
    """
    try:
        limit = aws.client("lambda", region).get_account_settings()["AccountLimit"]
    except ClientError as error:
        if aws.error_code(error) in _DENIED:
            return None
        raise
    return Quota(limit["ConcurrentExecutions"], limit["UnreservedConcurrentExecutions"])


def reserved(stage: str, functions: Iterable[str], region: str) -> dict[str, int] | None:
    """What each function has reserved; one that is not there yet has nothing.

    None where these credentials may not ask for it, of one function or of all.
    https://docs.aws.amazon.com/lambda/latest/api/API_GetFunctionConcurrency.html
    """
    try:
        return {each: _reserved(function_name(stage, each), region) for each in functions}
    except ClientError as error:
        if aws.error_code(error) in _DENIED:
            return None
        raise


def put_async_configs(stage: str, configs: Iterable[AsyncConfig], region: str) -> None:
    """Say how long Lambda may hold back what it is asked to run later. Safe to repeat."""
    client = aws.client("lambda", region)
    for each in configs:
        client.put_function_event_invoke_config(
            FunctionName=function_name(stage, each.function),
            MaximumEventAgeInSeconds=each.maximum_age_seconds,
            MaximumRetryAttempts=each.maximum_retries,
        )


def _reserved(name: str, region: str) -> int:
    try:
        answer = aws.client("lambda", region).get_function_concurrency(FunctionName=name)
    except ClientError as error:
        if aws.error_code(error) == "ResourceNotFoundException":
            return 0
        raise
    return int(answer.get("ReservedConcurrentExecutions", 0))
