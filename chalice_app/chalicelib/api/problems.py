"""RFC 9457 problem details, for every answer that is not a success."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import structlog
from chalice.app import ChaliceViewError, Request, Response

from chalicelib.errors import ApiProblem, BadParameter, ServiceUnavailable
from chalicelib.logs import describe

_MEDIA_TYPE = "application/problem+json"
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
    return Response(body | extension, {"Content-Type": _MEDIA_TYPE}, int(status))


def answer_problems(event: Request, get_response: Callable[[Any], Response]) -> Response:
    """Chalice's http middleware: errors become problems, and unexpected ones a log line."""
    where = event.path
    try:
        return get_response(event)
    except BadParameter as error:
        return problem(error.status, str(error), where, error.parameter)
    except ApiProblem as error:
        return problem(error.status, str(error), where)
    except ChaliceViewError as error:
        return problem(HTTPStatus(error.STATUS_CODE), str(error), where)
    except ServiceUnavailable as error:
        _log.warning("api_unavailable", **describe(error))
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, "try again in a moment", where)
    except Exception as error:  # noqa: BLE001 - a caller must not be shown our insides
        _log.error("api_failed", **describe(error))
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "the error was logged", where)
