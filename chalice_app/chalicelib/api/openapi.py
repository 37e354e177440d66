"""The API described by itself: OpenAPI 3.1, from the table that the routes are made of."""

from collections import defaultdict
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from chalicelib import VERSION
from chalicelib.api.problems import MEDIA_TYPE
from chalicelib.api.schemas import SCHEMAS, TEXT, Schema, reference

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chalicelib.api.routes import Route

Json = dict[str, Any]
# What any route may answer.
_ALWAYS = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.SERVICE_UNAVAILABLE,
)


def document(routes: "Iterable[Route]") -> Json:
    """The whole description."""
    paths: defaultdict[str, Json] = defaultdict(dict)
    for route in routes:
        paths[route.path][route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "DICOM Store SCP for AWS HealthImaging", "version": VERSION},
        "security": [{"iam": []}],
        "paths": dict(paths),
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {
                "iam": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "AWS Signature Version 4",
                }
            },
        },
    }


def _operation(route: "Route") -> Json:
    described = [_parameter(name, "path", TEXT) for name in route.names]
    described += [_parameter(name, "query", schema) for name, schema in route.query.items()]
    operation: Json = {
        "summary": route.summary,
        "parameters": described,
        "responses": {
            "200": {"description": "OK", "content": _content("application/json", route.shape)}
        }
        | {str(int(status)): _problem(status) for status in (*route.errors, *_ALWAYS)},
    }
    if route.body is not None:
        content = _content("application/json", route.body)
        operation["requestBody"] = {"required": True, "content": content}
    if route.is_public:
        operation["security"] = []
    return operation


def _parameter(name: str, place: str, schema: Schema) -> Json:
    return {"name": name, "in": place, "required": place == "path", "schema": schema}


def _problem(status: HTTPStatus) -> Json:
    return {"description": status.phrase, "content": _content(MEDIA_TYPE, "Problem")}


def _content(media_type: str, name: str) -> Json:
    return {media_type: {"schema": reference(name)}}
