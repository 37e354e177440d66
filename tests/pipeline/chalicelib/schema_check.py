"""As much of JSON Schema as ``chalicelib.api.schemas`` uses."""

import re
from collections.abc import Iterator
from typing import Any

_TYPES: dict[str, Any] = {
    "string": str,
    "integer": int,
    "boolean": bool,
    "array": list,
    "object": dict,
}


def complaints(value: Any, schema: dict[str, Any], document: Any, at: str = "$") -> Iterator[str]:
    """What is wrong with a value, against a schema of an OpenAPI document."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        yield from complaints(value, document["components"]["schemas"][name], document, at)
        return
    kind = schema["type"]
    if not isinstance(value, _TYPES[kind]) or (kind == "integer" and isinstance(value, bool)):
        yield f"{at} is no {kind}"
    elif kind == "object":
        yield from _members(value, schema, document, at)
    elif kind == "array":
        for number, each in enumerate(value):
            yield from complaints(each, schema["items"], document, f"{at}[{number}]")
    elif "enum" in schema and value not in schema["enum"]:
        yield f"{at} is none of {schema['enum']}"
    elif "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{at} does not match {schema['pattern']}"


def _members(value: Any, schema: Any, document: Any, at: str) -> Iterator[str]:
    known = schema.get("properties", {})
    yield from (f"{at} lacks {name}" for name in schema.get("required", ()) if name not in value)
    for name, member in value.items():
        if name in known:
            yield from complaints(member, known[name], document, f"{at}.{name}")
        elif schema.get("additionalProperties", True) is False:
            yield f"{at}.{name} is not described"
