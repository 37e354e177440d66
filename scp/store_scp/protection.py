"""ECS task scale-in protection: while it has work, the task is not one that ECS picks to stop.

Autoscaling and deployments stop tasks without asking what they do; only the task itself can say
that it is busy, to the agent beside it. A thread of the health process does so, and can hinder
nobody who receives. What is asked for and when is decided by ``Standing``, a value.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-scale-in-protection-endpoint.html
"""

import json
import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import Annotated, Self
from urllib.parse import urlsplit

import structlog
from pydantic import BaseModel, Field, ValidationError

from store_scp.board import Board
from store_scp.logs import describe
from store_scp.metrics import Gauge, PanelReading, WorkerState
from store_scp.settings import Settings

_PATH = "/task-protection/v1/state"
# An association is protected within a second of its beginning.
_POLL_SECONDS = 1.0
# Between two associations of one sender; ECS answers few such requests a second for an account.
_CALM_SECONDS = 30.0
_FIRST_RETRY_SECONDS = 1.0
_LONGEST_RETRY_SECONDS = 60.0
# The agent itself gives up on ECS after 4 s.
_REQUEST_SECONDS = 5.0
# The health process has 5 s to leave, and an agent that does not answer gets none of them.
_LEAVE_SECONDS = 1.0
_MAX_ANSWER = 65_536

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Standing:
    """What was seen of the workers and what ECS agreed to; all times are of one clock."""

    protected: bool | None = None  # what was there before us is not known
    renew_at: float = math.inf
    busy_at: float = -math.inf
    retry_at: float = -math.inf
    pause: float = 0.0

    def seen(self, busy: bool, now: float) -> Self:
        """The workers have work, or have none."""
        return replace(self, busy_at=now) if busy else self

    def request(self, now: float) -> bool | None:
        """What to ask ECS for now: protection, its end, or nothing."""
        if now < self.retry_at:
            return None
        wanted = now - self.busy_at < _CALM_SECONDS
        due = self.protected is not wanted or (wanted and now >= self.renew_at)
        return wanted if due else None

    def agreed(self, protected: bool, now: float, minutes: int) -> Self:
        """ECS did what was asked; protection is renewed at half of its time."""
        return type(self)(protected, now + minutes * 60 / 2, self.busy_at)

    def refused(self, now: float) -> Self:
        """It did not, or nobody knows."""
        pause = min(max(2 * self.pause, _FIRST_RETRY_SECONDS), _LONGEST_RETRY_SECONDS)
        return replace(self, pause=pause, retry_at=now + pause)


@contextmanager
def protecting(settings: Settings, board: Board) -> Iterator[None]:
    """Keep the task protected while it has work; outside ECS nothing happens."""
    if settings.ecs_agent_uri is None or not settings.protection_minutes:
        yield
        return
    stop = threading.Event()
    agent = Agent(settings.ecs_agent_uri, settings.protection_minutes)
    thread = threading.Thread(
        target=_keep, args=(agent, board, stop), name="protection", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(_LEAVE_SECONDS)


def busy(readings: Sequence[PanelReading]) -> bool:
    """Whether an association is open, or a batch whose manifest is not durable yet."""
    counted = (Gauge.ASSOCIATIONS_ESTABLISHED, Gauge.BATCHES_OPEN)
    return any(reading.gauges[gauge] > 0 for reading in readings for gauge in counted)


def draining(readings: Sequence[PanelReading]) -> bool:
    """Whether the task is being stopped, when nothing protects it any more."""
    return any(reading.state is WorkerState.DRAINING for reading in readings)


class Agent:
    """The ECS agent of this task."""

    def __init__(self, uri: str, minutes: int) -> None:
        self._uri = urlsplit(uri)
        self.minutes = minutes

    def protect(self, wanted: bool) -> str | None:
        """Ask for protection or its end; why it was not granted, or None if it was."""
        request: dict[str, bool | int] = {"ProtectionEnabled": wanted}
        if wanted:
            request["ExpiresInMinutes"] = self.minutes
        connection = HTTPConnection(self._uri.netloc, timeout=_REQUEST_SECONDS)
        try:
            connection.request(
                "PUT",
                self._uri.path.rstrip("/") + _PATH,
                json.dumps(request),
                {"Content-Type": "application/json"},
            )
            response = connection.getresponse()
            return objection(wanted, response.status, response.read(_MAX_ANSWER))
        except (OSError, HTTPException) as error:
            return describe(error)
        finally:
            connection.close()


def objection(wanted: bool, status: int, body: bytes) -> str | None:
    """Why an answer of the agent's is no consent. ECS's own refusals come with status 200."""
    try:
        answer = _Answer.model_validate_json(body)
    except ValidationError:
        return f"HTTP {status}"
    if answer.failure:
        return answer.failure.reason
    if answer.error:
        return answer.error.code
    granted = answer.protection is not None and answer.protection.enabled is wanted
    return None if granted and status == HTTPStatus.OK else f"HTTP {status}"


_Word = Annotated[str, Field(pattern=r"^[A-Za-z_]{1,64}$")]


class _Protection(BaseModel):
    enabled: bool = Field(alias="ProtectionEnabled")


class _Failure(BaseModel):
    reason: _Word = Field(alias="Reason")


class _Error(BaseModel):
    code: _Word = Field(alias="Code")


class _Answer(BaseModel):
    protection: _Protection | None = None
    failure: _Failure | None = None
    error: _Error | None = None


def _keep(agent: Agent, board: Board, stop: threading.Event) -> None:
    standing = Standing()
    while not stop.wait(_POLL_SECONDS):
        readings = board.read()
        if draining(readings):
            return
        now = time.monotonic()
        standing = standing.seen(busy(readings), now)
        wanted = standing.request(now)
        if wanted is not None:
            standing = _ask(agent, standing, wanted)


def _ask(agent: Agent, standing: Standing, wanted: bool) -> Standing:
    why = agent.protect(wanted)
    now = time.monotonic()
    if why is not None:
        refused = standing.refused(now)
        _log.warning("task_protection_failed", wanted=wanted, why=why, again_in=refused.pause)
        return refused
    if standing.protected is not wanted:
        _log.info("task_protection", protected=wanted)
    return standing.agreed(wanted, now, agent.minutes)
