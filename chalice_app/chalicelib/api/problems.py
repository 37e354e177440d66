"""RFC 9457 problem details, for every answer that is not a success."""

import functools
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import structlog
from chalice.app import ChaliceUnhandledError, Request, Response

from chalicelib.errors import ApiProblem, BadParameter, ServiceUnavailable
from chalicelib.logs import describe

Json = dict[str, Any]
MEDIA_TYPE = "application/problem+json"
_log = structlog.get_logger()


def problem(
    status: HTTPStatus, detail: str, instance: str, parameter: str | None = None
) -> Response:
    """A problem; ``about:blank`` means that the status says what kind it is (RFC 9457 4.2.1)."""
    body = {
        "type": "about:blank",
        "title": status.phrase,
        "status": int(status),
        "detail": detail,
        "instance": instance,
    }
    extension = {} if parameter is None else {"parameter": parameter}
    return Response(body | extension, {"Content-Type": MEDIA_TYPE}, int(status))


def raises_problems(view: Callable[..., Json]) -> Callable[..., Json]:
    """Let a view's errors reach :func:`answer_problems`; Chalice would answer them itself."""

    @functools.wraps(view)
    def raising(**arguments: str) -> Json:
        try:
            return view(**arguments)
        except Exception as error:
            raise ChaliceUnhandledError from error

    return raising


def answer_problems(event: Request, get_response: Callable[[Any], Response]) -> Response:
    """Chalice's http middleware: errors become problems, and unexpected ones a log line."""
    try:
        return get_response(event)
    except ChaliceUnhandledError as error:
        return _answer(error.__cause__ or error, (event.context or {}).get("path", event.path))


def _answer(error: BaseException, where: str) -> Response:
    if isinstance(error, BadParameter):
        return problem(error.status, str(error), where, error.parameter)
    if isinstance(error, ApiProblem):
        return problem(error.status, str(error), where)
    if isinstance(error, ServiceUnavailable):
        _log.warning("api_unavailable", **describe(error))
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, "try again in a moment", where)
    # A caller must not be shown our insides.
    _log.error("api_failed", **describe(error))
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "the error was logged", where)
