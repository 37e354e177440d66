"""The Chalice project of one stage: .chalice/config.json and a policy for each function.

chalice_app/.chalice holds what every deployment has in common: the stage ``dev`` and policies for
any account. Rendered, each name in them is the one that the stacks' outputs say.
"""

import functools
import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from infra.deploy.policies import Place, narrowed
from infra.deploy.sections import FunctionSettings
from infra.deploy.templates import REPOSITORY

APP_NAME = "dicom-store-scp"
APP = REPOSITORY / "chalice_app"
# Chalice calls the function behind the REST API by the app's and stage's names alone.
API_HANDLER = "api_handler"
_BASE_STAGE = "dev"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Stage:
    """What tells one stage from another. ``environment`` goes to every function."""

    name: str
    place: Place
    environment: Mapping[str, str]
    sizes: Mapping[str, FunctionSettings] = field(default_factory=dict)
    vpc_endpoints: tuple[str, ...] = ()


@functools.cache
def base() -> Json:
    """chalice_app/.chalice/config.json."""
    return dict(json.loads((APP / ".chalice" / "config.json").read_text(encoding="utf-8")))


def functions() -> frozenset[str]:
    """The functions' names within the app."""
    return frozenset(base()["stages"][_BASE_STAGE]["lambda_functions"])


def function_name(stage: str, function: str) -> str:
    """What Chalice calls a function on AWS."""
    return f"{APP_NAME}-{stage}" + ("" if function == API_HANDLER else f"-{function}")


def policy_file(function: str) -> str:
    """A function's own policy in the rendered project."""
    return f"policy-{function}.json"


def render_config(stage: Stage) -> Json:
    """config.json with this stage and no other."""
    document = deepcopy(base())
    rendered = document["stages"].pop(_BASE_STAGE)
    rendered["environment_variables"] |= stage.environment
    for name, function in rendered["lambda_functions"].items():
        function.update(_sized(stage.sizes.get(name, FunctionSettings())))
        function["iam_policy_file"] = policy_file(name)
    rendered["api_gateway_endpoint_type"] = "PRIVATE" if stage.vpc_endpoints else "REGIONAL"
    if stage.vpc_endpoints:
        rendered["api_gateway_endpoint_vpce"] = list(stage.vpc_endpoints)
    document["stages"] = {stage.name: rendered}
    return document


def render_policies(stage: Stage) -> dict[str, Json]:
    """By file name, what each function may do, and in this deployment only."""
    declared = base()["stages"][_BASE_STAGE]["lambda_functions"]
    return {
        policy_file(name): narrowed(
            _policy(function["iam_policy_file"]), function_name(stage.name, name), stage.place
        )
        for name, function in declared.items()
    }


def _sized(sizes: FunctionSettings) -> Json:
    chosen = {
        "lambda_memory_size": sizes.memory,
        "lambda_timeout": sizes.timeout,
        "reserved_concurrency": sizes.reserved_concurrency,
    }
    return {name: value for name, value in chosen.items() if value is not None}


def _policy(file: str) -> Json:
    return dict(json.loads((APP / ".chalice" / file).read_text(encoding="utf-8")))
