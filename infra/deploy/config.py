"""The configuration file, checked against the templates before anything is called.

``check`` takes values and returns every error at once; only ``load`` reads a file.
"""

import difflib
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from infra.deploy import lambda_settings, rules
from infra.deploy.errors import ConfigInvalid
from infra.deploy.sections import ApiSettings, File, FunctionSettings, ImageSettings
from infra.deploy.templates import Parameter, Template

DEFAULT_STAGE = "prod"
DEFAULT_PREFIX = "dicom-store-scp"
# https://docs.aws.amazon.com/general/latest/gr/healthimaging.html; botocore has no list of them.
REGIONS = ("ap-southeast-2", "eu-west-1", "eu-west-2", "us-east-1", "us-west-2")
# Given by the command and not by the file: --stage, and the image that it has pushed.
SUPPLIED = frozenset({"Stage", "ImageUri"})


@dataclass(frozen=True, slots=True)
class Configuration:
    """What is to stand on AWS, valid as far as it can be told without asking AWS."""

    stage: str
    region: str
    prefix: str = DEFAULT_PREFIX
    parameters: Mapping[str, str] = field(default_factory=dict)
    functions: Mapping[str, FunctionSettings] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    api: ApiSettings = field(default_factory=ApiSettings)
    image: ImageSettings = field(default_factory=ImageSettings)

    @property
    def name(self) -> str:
        """What this deployment is called, and its data is deleted by."""
        return f"{self.prefix}-{self.stage}"

    def stack_name(self, template: str) -> str:
        """The stack of a template."""
        return f"{self.name}-{template}"

    def parameters_of(self, template: Template, **supplied: str) -> dict[str, str]:
        """What the stack is given; a parameter without an entry has its default."""
        values = {**self.parameters, "Stage": self.stage, **supplied}
        return {name: values[name] for name in template.parameters if name in values}


def load(
    path: Path | None,
    stage: str,
    region: str | None,
    templates: Sequence[Template],
    default_region: str | None = None,
) -> Configuration:
    """Raises ConfigInvalid with everything that is wrong.

    ``region`` goes before the file's, and that before the ``default_region``.
    """
    document: dict[str, Any] = {}
    if path is not None:
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigInvalid([f"{path}: {error}"]) from None
    return check({"region": default_region, **document}, stage, region, templates)


def check(
    document: Mapping[str, Any],
    stage: str,
    region: str | None,
    templates: Sequence[Template],
) -> Configuration:
    """The configuration that ``document`` describes; raises ConfigInvalid with all its errors."""
    problems: list[str] = []
    file = _parse(document, problems)
    chosen = region or file.region or ""
    parameters = [each for template in templates for each in template.parameters.values()]
    known = {each.name: each for each in parameters}
    values = {name: each.default for name, each in known.items() if each.default is not None}
    values |= file.parameters | {"Stage": stage}
    problems += _region_problems(chosen)
    problems += _name_problems("parameters", file.parameters, known.keys() - SUPPLIED)
    problems += dict.fromkeys(_value_problems(parameters, values))
    problems += rules.broken(values, chosen, templates)
    problems += lambda_settings.broken(file.environment, file.functions)
    problems += _api_problems(file.api, values)
    if problems:
        raise ConfigInvalid(problems)
    return Configuration(
        stage,
        chosen,
        values.get("NamePrefix", DEFAULT_PREFIX),
        file.parameters,
        file.functions,
        file.environment,
        file.api,
        file.image,
    )


def _parse(document: Mapping[str, Any], problems: list[str]) -> File:
    """What can be read of the file; what is wrong with the rest goes to ``problems``."""
    sound = deepcopy(dict(document))
    while True:
        try:
            return File.model_validate(sound)
        except ValidationError as error:
            for each in error.errors(include_url=False):
                where = ".".join(str(part) for part in each["loc"])
                rule = each["msg"].removeprefix("Value error, ")
                problems.append(f"{where} = {each['input']!r}: {rule[:1].lower()}{rule[1:]}")
            for path in {each["loc"] for each in error.errors()}:
                _drop(sound, path)


def _drop(document: dict[str, Any], path: Sequence[str | int]) -> None:
    """Remove the last entry on this path that is in a table."""
    entry, inner = (document, path[0]), document.get(str(path[0]))
    for part in path[1:]:
        if isinstance(inner, dict) and part in inner:
            entry, inner = (inner, part), inner[part]
    table, name = entry
    table.pop(str(name), None)


def _region_problems(region: str) -> Iterator[str]:
    if not region:
        yield "region: not set; name one in the file, with --region or in AWS_REGION"
    elif region not in REGIONS:
        yield f"region = {region!r}: HealthImaging is in {', '.join(REGIONS)}"


def _name_problems(section: str, given: Collection[str], known: Collection[str]) -> Iterator[str]:
    for name in given:
        if name in SUPPLIED:
            yield f"{section}.{name}: the command gives this itself"
        elif name not in known:
            similar = difflib.get_close_matches(name, sorted(known), 1)
            hint = f"; did you mean {similar[0]}?" if similar else ""
            yield f"{section}.{name}: no template has this parameter{hint}"


def _value_problems(parameters: Sequence[Parameter], values: Mapping[str, str]) -> Iterator[str]:
    """Of each template's own rules, since two may ask different things of one parameter."""
    for each in parameters:
        if each.name in values:
            for rule in broken_rules(each, values[each.name]):
                yield f"parameters.{each.name} = {values[each.name]!r}: {rule}"
        elif each.name not in SUPPLIED:
            yield f"parameters.{each.name}: not set; {each.description or 'it has no default'}"


def broken_rules(parameter: Parameter, text: str) -> list[str]:
    """What of a template's rules ``text`` breaks, in the template's own words if it has some."""
    rules_broken = list(_broken_rules(parameter, text))
    return [parameter.constraint] if rules_broken and parameter.constraint else rules_broken


def _broken_rules(parameter: Parameter, text: str) -> Iterator[str]:
    is_list = "List" in parameter.type
    parts = [part.strip() for part in text.split(",")] if is_list else [text]
    if parameter.allowed and not set(parts) <= set(parameter.allowed):
        yield f"must be one of {', '.join(parameter.allowed)}"
    pattern = parameter.pattern
    if pattern and not all(re.fullmatch(pattern, part) for part in parts):
        yield f"must match {pattern}"
    shortest, longest = parameter.length
    if shortest is not None and len(text) < shortest:
        yield f"must have at least {shortest} characters"
    if longest is not None and len(text) > longest:
        yield f"must have at most {longest} characters"
    if parameter.type == "Number":
        yield from _broken_number(parameter, text)


def _broken_number(parameter: Parameter, text: str) -> Iterator[str]:
    if not re.fullmatch(r"-?\d+(\.\d+)?", text):
        yield "must be a number"
        return
    least, most = parameter.value
    if least is not None and float(text) < least:
        yield f"must be at least {least:g}"
    if most is not None and float(text) > most:
        yield f"must be at most {most:g}"


def _api_problems(api: ApiSettings, values: Mapping[str, str]) -> Iterator[str]:
    private, own_vpc = values.get("PrivateApi") == "true", bool(values.get("VpcID"))
    if private and own_vpc and not api.vpc_endpoints:
        yield (
            "api.vpc_endpoints: PrivateApi in your own VPC needs the ids of its "
            "execute-api endpoints"
        )
    if api.vpc_endpoints and not (private and own_vpc):
        yield "api.vpc_endpoints: only for PrivateApi in your own VPC (VpcID)"
