"""AWS clients, made on first use and kept.

boto3 itself honours AWS_ENDPOINT_URL and AWS_PROFILE.
"""

import functools
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, ProfileNotFound

from infra.deploy.policies import Place

_CONFIG = Config(retries={"mode": "standard", "total_max_attempts": 8})


@functools.cache
def client(service: Any, region: str) -> Any:
    """A client of ``service`` in ``region``; its caller knows the type."""
    return boto3.client(service, region_name=region, config=_CONFIG)


def default_region() -> str | None:
    """What the environment or the profile says, if any."""
    try:
        return boto3.session.Session().region_name
    except ProfileNotFound:
        return None  # the file is checked all the same; then the credentials fail by it


def error_code(error: ClientError) -> str:
    """The code that AWS gave the error, as ``AccessDeniedException``; empty if it gave none."""
    return error.response.get("Error", {}).get("Code", "")


def place(region: str) -> Place:
    """The account that the credentials are for."""
    identity = client("sts", region).get_caller_identity()
    return Place(identity["Arn"].split(":")[1], region, identity["Account"])
