"""The templates as the tests read them: values, with the intrinsic functions in their long form."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from infra.deploy import templates

Json = dict[str, Any]
BODIES = {each.name: each.body for each in templates.read()}
TEMPLATES: dict[str, Json] = {each.name: dict(each.document) for each in templates.read()}


def resources(kind: str | None = None) -> Iterator[tuple[str, Json]]:
    """Every resource of a type, with its logical id."""
    for template in TEMPLATES.values():
        for name, resource in template["Resources"].items():
            if kind in {None, resource["Type"]}:
                yield name, resource


def resource(name: str) -> Json:
    """The properties of the one resource with this logical id."""
    (found,) = [each for logical_id, each in resources() if logical_id == name]
    properties: Json = found["Properties"]
    return properties


def walk(value: object) -> Iterator[object]:
    """A value and everything in it."""
    yield value
    if isinstance(value, Mapping):
        for each in value.values():
            yield from walk(each)
    elif isinstance(value, list):
        for each in value:
            yield from walk(each)


def texts(value: object) -> list[str]:
    """Every string in a value, which are keys' values only."""
    return [each for each in walk(value) if isinstance(each, str)]


def imports(value: object) -> set[str]:
    """The names that a value imports, without the deployment's prefix."""
    return {
        text.removeprefix("${NamePrefix}-${Stage}-")
        for each in walk(value)
        if isinstance(each, Mapping) and "Fn::ImportValue" in each
        for text in texts(each["Fn::ImportValue"])
    }


def exports(template: Json) -> set[str]:
    """The names that a template exports, without the deployment's prefix."""
    return {
        output["Export"]["Name"]["Fn::Sub"].removeprefix("${NamePrefix}-${Stage}-")
        for output in template["Outputs"].values()
        if "Export" in output
    }


def listed(value: Any) -> list[Any]:
    """What IAM lets be one or several."""
    return value if isinstance(value, list) else [value]


def statements(document: Json) -> list[Json]:
    """A policy's statements, those under a condition among them."""
    return [each["Fn::If"][1] if "Fn::If" in each else each for each in document["Statement"]]


def role_statements(name: str) -> list[Json]:
    """All that a role may do."""
    policies = resource(name)["Policies"]
    return [each for policy in policies for each in statements(policy["PolicyDocument"])]


def actions(found: list[Json]) -> set[str]:
    """What statements allow."""
    return {action for each in found for action in listed(each["Action"])}


def longest(text: str) -> str:
    """A name with the longest values its parameters and pseudo parameters may have."""
    values = {
        "NamePrefix": "p" * 18,
        "Stage": "s" * 8,
        "AWS::Region": "ap-southeast-2",
        "AWS::AccountId": "1" * 12,
    }
    return re.sub(r"\$\{([\w:]+)\}", lambda match: values[match[1]], text)
