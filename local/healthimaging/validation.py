"""A request against botocore's service model: which members break which constraint.

botocore's client checks only required members and minimum lengths; patterns, maximum lengths,
enums and ranges are checked by the service, and so here.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import TypeVar

from botocore.loaders import Loader
from botocore.model import ListShape, MapShape, ServiceModel, Shape, StringShape, StructureShape

SERVICE = "medical-imaging"

ShapeT = TypeVar("ShapeT", bound=Shape)

# The model's own pattern for this shape takes exponential time on a text that does not match.
_LINEAR_PATTERNS = {"MetadataFilePath": "[!-~]([ -~]*[!-~])?"}


@cache
def service_model() -> ServiceModel:
    """botocore's description of the service."""
    # A loader of our own: the environment (AWS_DATA_PATH) must not change what is checked.
    return ServiceModel(Loader().load_service_model(SERVICE, "service-2"), SERVICE)


def shape_named(name: str, kind: type[ShapeT]) -> ShapeT:
    """A shape of the service model that is not the input of an operation."""
    shape = service_model().shape_for(name)
    if not isinstance(shape, kind):
        raise TypeError(f"{name} is a {shape.type_name}")
    return shape


def request_violations(operation: str, params: Mapping[str, object]) -> tuple[str, ...]:
    """Every constraint ``params`` breaks, in AWS's words, each naming its member."""
    shape = service_model().operation_model(operation).input_shape
    if shape is None:
        return ()
    return tuple(violations(shape, params, ""))


def violations(shape: Shape, value: object, path: str) -> Iterator[str]:
    """Every constraint ``value`` breaks, depth first; ``path`` names it in the messages."""
    if isinstance(shape, StructureShape):
        yield from _structure_violations(shape, value, path)
    elif isinstance(shape, ListShape):
        yield from _list_violations(shape, value, path)
    elif isinstance(shape, MapShape):
        yield from _map_violations(shape, value, path)
    elif isinstance(shape, StringShape):
        yield from _string_violations(shape, value, path)
    elif shape.type_name == "integer":
        yield from _integer_violations(shape, value, path)


def _structure_violations(shape: StructureShape, value: object, path: str) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield _violation(shape, value, path, "Member must be a structure")
        return
    present = {name: member for name, member in value.items() if member is not None}
    for name in shape.required_members:
        if name not in present:
            where = _join(path, name)
            yield f"Value null at '{where}' failed to satisfy constraint: Member must not be null"
    if shape.is_tagged_union and len(present) != 1:
        yield f"Value at '{path}' failed to satisfy constraint: Member must have one member set"
    for name, member in present.items():
        yield from violations(shape.members[name], member, _join(path, name))


def _list_violations(shape: ListShape, value: object, path: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield _violation(shape, value, path, "Member must be a list")
        return
    yield from _length_violations(shape, value, path)
    for index, item in enumerate(value, start=1):
        yield from violations(shape.member, item, f"{path}.{index}.member")


def _map_violations(shape: MapShape, value: object, path: str) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield _violation(shape, value, path, "Member must be a map")
        return
    for key, item in value.items():
        yield from violations(shape.key, key, f"{path}.key")
        yield from violations(shape.value, item, f"{path}.{key}")


def _string_violations(shape: StringShape, value: object, path: str) -> Iterator[str]:
    if not isinstance(value, str):
        yield _violation(shape, value, path, "Member must be a string")
        return
    length = list(_length_violations(shape, value, path))
    if length:
        # A pattern is not tried on a text of any length.
        yield from length
        return
    if shape.enum and value not in shape.enum:
        allowed = ", ".join(shape.enum)
        yield _violation(shape, value, path, f"Member must satisfy enum value set: [{allowed}]")
    pattern = shape.metadata.get("pattern")
    if pattern is not None and not _compiled(shape.name, pattern).fullmatch(value):
        yield _violation(
            shape, value, path, f"Member must satisfy regular expression pattern: {pattern}"
        )


def _length_violations(shape: Shape, value: str | list[object], path: str) -> Iterator[str]:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and len(value) < least:
        constraint = f"Member must have length greater than or equal to {least}"
        yield _violation(shape, value, path, constraint)
    if most is not None and len(value) > most:
        constraint = f"Member must have length less than or equal to {most}"
        yield _violation(shape, value, path, constraint)


def _integer_violations(shape: Shape, value: object, path: str) -> Iterator[str]:
    if not isinstance(value, int):
        yield _violation(shape, value, path, "Member must be an integer")
        return
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and value < least:
        yield _violation(shape, value, path, f"Member must be greater than or equal to {least}")
    if most is not None and value > most:
        yield _violation(shape, value, path, f"Member must be less than or equal to {most}")


@cache
def _compiled(name: str, pattern: str) -> re.Pattern[str]:
    java = _LINEAR_PATTERNS.get(name, pattern)
    return re.compile(java.replace(r"\p{ASCII}", r"[\x00-\x7f]"), re.ASCII)


def _violation(shape: Shape, value: object, path: str, constraint: str) -> str:
    # The model marks patient data as sensitive: such a value is not repeated.
    shown = " " if shape.metadata.get("sensitive") else f" '{value}' "
    return f"Value{shown}at '{path}' failed to satisfy constraint: {constraint}"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
