"""Every route, in one table: what it answers, which parameters it knows, who may ask."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from chalicelib import VERSION, wiring
from chalicelib.api import openapi, parameters, resources
from chalicelib.api.schemas import TEXT, TIME, UID, Schema
from chalicelib.api.views import Json
from chalicelib.operations import setup
from chalicelib.settings import ApiSettings
from chalicelib.stores.blocked import Work
from contract.records import BatchState, JobStatus

_NAME = re.compile(r"{(\w+)}")
_LIMIT: Schema = {
    "type": "integer",
    "minimum": 1,
    "maximum": parameters.MAX_LIMIT,
    "default": parameters.DEFAULT_LIMIT,
}
_PAGE: dict[str, Schema] = {"limit": _LIMIT, "cursor": TEXT}


@dataclass(frozen=True, slots=True)
class Call:
    """One request."""

    path: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path. ``shape`` and ``body`` name schemas; ``query`` is by parameter."""

    method: str
    path: str
    summary: str
    shape: str
    answer: Callable[[Call], Json]
    query: Mapping[str, Schema]
    errors: tuple[HTTPStatus, ...] = ()
    body: str | None = None
    is_public: bool = False

    @property
    def names(self) -> list[str]:
        """The path's parameters."""
        return _NAME.findall(self.path)


def answer(route: Route, call: Call) -> Json:
    """A route's answer; raises ApiProblem and ServiceUnavailable."""
    parameters.only(call.query, route.query.keys())
    return route.answer(call)


def _bucket() -> str:
    bucket: str = wiring.settings(ApiSettings).dicom_bucket
    return bucket


_GONE = (HTTPStatus.NOT_FOUND,)
_UNFIT = (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)
ROUTES: tuple[Route, ...] = (
    Route(
        "GET", "/jobs", "Import jobs, newest first", "Jobs",
        lambda call: resources.list_jobs(wiring.stores(), call.query),
        {
            "status": {"type": "string", "enum": list(JobStatus)},
            "study": UID,
            "from": TIME,
            "to": TIME,
            **_PAGE,
        },
    ),
    Route(
        "GET", "/jobs/{jobId}", "One import job", "Job",
        lambda call: resources.get_job(wiring.stores(), call.path["jobId"]),
        {}, _GONE,
    ),
    Route(
        "GET", "/jobs/{jobId}/instances", "What became of each instance of a job", "JobInstances",
        lambda call: resources.list_job_instances(
            wiring.stores(), _bucket(), call.path["jobId"], call.query
        ),
        _PAGE, _GONE,
    ),
    Route(
        "GET", "/studies/{studyInstanceUID}", "Is my study there?", "Study",
        lambda call: resources.get_study(wiring.stores(), call.path["studyInstanceUID"]),
        {}, _GONE,
    ),
    Route(
        "GET", "/instances/{sopInstanceUID}", "Is my image there?", "Instances",
        lambda call: resources.get_instance(
            wiring.stores(), setup.journal(), call.path["sopInstanceUID"], call.query
        ),
        _PAGE, _GONE,
    ),
    Route(
        "POST", "/instances/{sopInstanceUID}/release", "Import an instance that was put aside",
        "Repeated",
        lambda call: resources.release_instance(
            setup.operations(), call.path["sopInstanceUID"], call.body
        ),
        {}, _UNFIT, body="Release",
    ),
    Route(
        "GET", "/batches", "Batches, newest first", "Batches",
        lambda call: resources.list_batches(wiring.stores(), call.query),
        {"state": {"type": "string", "enum": list(BatchState)}, "callingAeTitle": TEXT, **_PAGE},
    ),
    Route(
        "GET", "/batches/{batchId}", "One batch", "Batch",
        lambda call: resources.get_batch(wiring.stores(), setup.journal(), call.path["batchId"]),
        {}, _GONE,
    ),
    Route(
        "GET", "/blocked", "What cannot be handled until somebody changes something", "Blocked",
        lambda call: resources.list_blocked(wiring.stores(), call.query),
        {"work": {"type": "string", "enum": list(Work)}, **_PAGE},
    ),
    Route(
        "POST", "/batches/{batchId}/retry", "Import a batch's failed instances once more",
        "Repeated",
        lambda call: resources.retry_batch(setup.operations(), call.path["batchId"], call.body),
        {}, _UNFIT, body="Retry",
    ),
    Route(
        "GET", "/health", "Whether the API runs; asks no other service", "Health",
        lambda _: {"status": "ok", "version": VERSION},
        {}, is_public=True,
    ),
    Route(
        "GET", "/openapi.json", "This API, as OpenAPI 3.1", "OpenApi",
        lambda _: openapi.document(ROUTES),
        {},
    ),
)  # fmt: skip
