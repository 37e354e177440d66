"""The other design: each image's S3 event starts an execution and a job of its own.

As the reference product is documented. It gets every benefit of the doubt: our own state machine,
Lambdas and polls, once for each image; retries that never give up; and in the best case an order
nobody could improve on.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.pipeline.account import LIMITS
from bench.pipeline.hospital import Study, seconds_per_image
from bench.pipeline.machine import longest_delay
from local.healthimaging.quotas import Rate, TokenBucket

_DAY = 86_400
# Step Functions' own limit for an account, in us-east-1.
# https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
_TRANSITIONS_PER_SECOND = 5_000
# From then on an execution retries at the longest delay: two seconds times 1.5 to the ninth.
_RETRIES_TO_THE_CAP = 10


def start_rate() -> Rate:
    """StartDICOMImportJob's, as published."""
    return LIMITS.rates["StartDICOMImportJob"]


def arrivals(studies: Iterable[Study]) -> list[float]:
    """When each image has arrived."""
    return sorted(_arrivals(studies))


def _arrivals(studies: Iterable[Study]) -> Iterator[float]:
    for study in studies:
        step = seconds_per_image(study.size)
        for each in study.associations:
            for number in range(each.images):
                yield each.begins + (number + 1) * step


def best_starts(images: Iterable[float]) -> list[float]:
    """When their jobs start at best: in the order of the images, each once the quota lets it."""
    rate = start_rate()
    bucket, now = TokenBucket.full(rate, 0.0), 0.0
    starts = []
    for arrived in images:
        now = max(now, arrived)
        while (after := bucket.take(now)) is None:
            filled = bucket.tokens + (now - bucket.updated_at) * rate.per_second
            # A little more, or rounding could leave the token short of one for ever.
            now += (1 - filled) / rate.per_second + 1e-6
        bucket = after
        starts.append(now)
    return starts


@dataclass(frozen=True, slots=True)
class Storm:
    """What the retries of a day come to."""

    started: int
    throttled: int
    waiting: int


def storm(images: Sequence[float], rule: Mapping[str, Any], seconds: int = _DAY) -> Storm:
    """Executions that each retry on their own by ``rule``: in aggregate, by the second."""
    fresh = Counter(int(arrived) for arrived in images)
    waves = [
        _Wave(math.ceil(longest_delay(rule, max(0, tried - 1))))
        for tried in range(_RETRIES_TO_THE_CAP + 1)
    ]
    bucket, started, throttled = TokenBucket.full(start_rate(), 0.0), 0, 0.0
    for second in range(seconds):
        waves[0].late += fresh[second]
        due = [wave.due(second) for wave in waves]
        wanted = sum(due)
        tried = min(wanted, _TRANSITIONS_PER_SECOND)
        taken = 0
        while taken + 1 <= tried and (after := bucket.take(float(second))) is not None:
            bucket, taken = after, taken + 1
        # Less than one attempt is none yet.
        refused = tried - taken if tried >= 1 else 0.0
        started, throttled = started + taken, throttled + refused
        for number, (wave, attempts) in enumerate(zip(waves, due, strict=True)):
            share = attempts / wanted if wanted else 0.0
            wave.late = attempts - share * (taken + refused)
            waves[min(number + 1, len(waves) - 1)].spread(second, share * refused)
    return Storm(started, round(throttled), len(images) - started)


class _Wave:
    """Executions that have retried equally often: how many attempts they make in each second."""

    def __init__(self, delay: int) -> None:
        self._delay = delay
        self._rate = 0.0
        self._changes: defaultdict[int, float] = defaultdict(float)
        self.late = 0.0

    def due(self, second: int) -> float:
        """The attempts of this second, and those that were held back before."""
        self._rate += self._changes.pop(second, 0.0)
        return max(0.0, self._rate) + self.late

    def spread(self, second: int, attempts: float) -> None:
        """So many come back, evenly over the delay."""
        each = attempts / self._delay
        self._changes[second + 1] += each
        self._changes[second + 1 + self._delay] -= each
