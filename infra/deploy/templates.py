"""The CloudFormation templates as values: what they ask for, and the body AWS gets."""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from yaml import SafeLoader
else:  # libyaml's is six times as fast, and PyYAML may have been built without it
    SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "infra" / "cloudformation"
# In the order of deployment; the Lambdas and the image come between workflow and service.
NAMES = ("network", "storage", "workflow", "service", "monitoring")
# https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html
MAX_BODY_BYTES = 51_200

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One entry of a template's Parameters, its rules as CloudFormation names them."""

    name: str
    type: str = "String"
    default: str | None = None
    pattern: str | None = None
    allowed: tuple[str, ...] = ()
    length: tuple[int | None, int | None] = (None, None)
    value: tuple[float | None, float | None] = (None, None)
    constraint: str | None = None
    description: str = ""

    @classmethod
    def parse(cls, name: str, entry: Mapping[str, Any]) -> "Parameter":
        """``entry`` as it stands in the template."""
        default = entry.get("Default")
        return cls(
            name,
            entry.get("Type", "String"),
            None if default is None else as_text(default),
            entry.get("AllowedPattern"),
            tuple(as_text(each) for each in entry.get("AllowedValues", ())),
            (_int(entry.get("MinLength")), _int(entry.get("MaxLength"))),
            (_float(entry.get("MinValue")), _float(entry.get("MaxValue"))),
            entry.get("ConstraintDescription"),
            entry.get("Description", ""),
        )


@dataclass(frozen=True, slots=True)
class Template:
    """A template; ``document`` is all of it, with the intrinsic functions in their long form."""

    name: str
    document: Mapping[str, Any]
    parameters: Mapping[str, Parameter]

    @property
    def resources(self) -> dict[str, Json]:
        """By logical id."""
        return dict(self.document["Resources"])

    @property
    def body(self) -> str:
        """What CloudFormation gets: JSON, since it is shorter without comments and indents."""
        return json.dumps(self.document, separators=(",", ":"))


def as_text(value: object) -> str:
    """A value of TOML or YAML as CloudFormation's parameters take it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(as_text(each) for each in value)
    return str(value)


def read(folder: Path = FOLDER) -> tuple[Template, ...]:
    """Every template, in the order of deployment."""
    return tuple(read_one(folder / f"{name}.yaml") for name in NAMES)


def read_one(path: Path) -> Template:
    """A template with the files it refers to put in, as ``aws cloudformation package`` uploads."""
    document = parse(path.read_text(encoding="utf-8"))
    for resource in document["Resources"].values():
        properties = resource.get("Properties", {})
        if isinstance(definition := properties.get("DefinitionS3Location"), str):
            del properties["DefinitionS3Location"]
            machine = json.loads((path.parent / definition).read_text(encoding="utf-8"))
            properties["DefinitionString"] = json.dumps(machine, separators=(",", ":"))
    entries = document.get("Parameters", {}).items()
    parameters = {name: Parameter.parse(name, entry) for name, entry in entries}
    return Template(path.stem, document, parameters)


def parse(text: str) -> Json:
    """A template's text; ``!Sub`` and its like become ``{"Fn::Sub": ...}``."""
    loader = _Loader(text)
    try:
        return dict(loader.get_single_data())
    finally:
        loader.dispose()


class _Loader(SafeLoader):
    """YAML with CloudFormation's short forms, in which ``2012-10-17`` is no date."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own attribute
        first: [each for each in resolvers if each[0] != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def _short_form(loader: _Loader, suffix: str, node: yaml.Node) -> Json:
    name = suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}"
    if isinstance(node, yaml.ScalarNode):
        text = loader.construct_scalar(node)
        return {name: text.split(".", 1) if suffix == "GetAtt" else text}
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    if isinstance(node, yaml.MappingNode):
        return {name: loader.construct_mapping(node, deep=True)}
    raise yaml.constructor.ConstructorError(problem=f"!{suffix} of nothing")


_Loader.add_multi_constructor("!", _short_form)


def _number(kind: Any, value: Any) -> Any:
    return None if value is None else kind(value)


_int = functools.partial(_number, int)
_float = functools.partial(_number, float)
