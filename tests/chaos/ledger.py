"""The senders' own record: what was answered to each C-STORE."""

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Answer(StrEnum):
    """What a sender knows of one C-STORE request that it sent."""

    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    NONE = "unanswered"


@dataclass(frozen=True, slots=True)
class Sent:
    """How often one SOP Instance UID got which answer.

    ``versions`` are how many files with other bytes each were sent under it, ``kept`` how many of
    those were acknowledged.
    """

    acknowledged: int = 0
    refused: int = 0
    unanswered: int = 0
    versions: int = 1
    kept: int = 0


class Ledger:
    """Filled by all senders at once."""

    def __init__(self) -> None:
        self._answers: Counter[tuple[str, int, Answer]] = Counter()
        self._lock = threading.Lock()

    def record(self, sop_instance_uid: str, answer: Answer, version: int = 0) -> None:
        """One request more."""
        with self._lock:
            self._answers[sop_instance_uid, version, answer] += 1

    def count(self, answer: Answer) -> int:
        """How many requests got this answer."""
        with self._lock:
            return sum(n for (_, _, each), n in self._answers.items() if each is answer)

    def sent(self) -> Mapping[str, Sent]:
        """By SOP Instance UID."""
        with self._lock:
            answers = Counter(self._answers)
        of_uid: dict[str, dict[tuple[int, Answer], int]] = {}
        for (uid, version, answer), number in answers.items():
            of_uid.setdefault(uid, {})[version, answer] = number
        return {uid: _sent(each) for uid, each in of_uid.items()}


def _sent(answers: Mapping[tuple[int, Answer], int]) -> Sent:
    def count(wanted: Answer) -> int:
        return sum(number for (_, answer), number in answers.items() if answer is wanted)

    return Sent(
        count(Answer.ACKNOWLEDGED),
        count(Answer.REFUSED),
        count(Answer.NONE),
        versions=len({version for version, _ in answers}),
        kept=len({version for version, answer in answers if answer is Answer.ACKNOWLEDGED}),
    )
