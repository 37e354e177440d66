"""Lambdas whose processes die at their AWS calls: before one was sent, or after it was answered."""

import random
import threading
from collections.abc import Callable
from typing import Any

from chalicelib import aws

_CLIENTS: tuple[Callable[[], Any], ...] = (
    aws.s3,
    aws.dynamodb,
    aws.sqs,
    aws.stepfunctions,
    aws.healthimaging,
    aws.healthimaging_starts,
    aws.events,
)


class Crashes:
    """``chance`` is that of each call, before and behind it."""

    def __init__(self, seed: str) -> None:
        self.chance = 0.0
        self.count = 0
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    def install(self) -> None:
        """Into the handlers' cached clients, whatever they will be used for."""
        for client in _CLIENTS:
            events = client().meta.events
            events.register("before-send", self._perhaps)
            events.register("after-call", self._perhaps)

    def _perhaps(self, **_: Any) -> None:
        with self._lock:
            dies = self._random.random() < self.chance
            self.count += dies
        if dies:
            raise SystemExit("the Lambda's process is killed")
