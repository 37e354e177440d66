"""The senders' own record: what was answered to each C-STORE."""

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from tests.chaos.contents import Content, Variant


class Answer(StrEnum):
    """What a sender knows of one C-STORE request that it sent."""

    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    NONE = "unanswered"


@dataclass(frozen=True, slots=True)
class Sent:
    """How often one content of an instance got which answer."""

    acknowledged: int = 0
    refused: int = 0
    unanswered: int = 0


class Ledger:
    """Filled by all senders at once."""

    def __init__(self) -> None:
        self._answers: Counter[tuple[Content, Answer]] = Counter()
        self._variants: dict[Content, Variant] = {}
        self._lock = threading.Lock()

    def record(self, content: Content, answer: Answer, variant: Variant = Variant.ORIGINAL) -> None:
        """One request more."""
        with self._lock:
            self._answers[content, answer] += 1
            self._variants[content] = variant

    def count(self, answer: Answer) -> int:
        """How many requests got this answer."""
        with self._lock:
            return sum(n for (_, each), n in self._answers.items() if each is answer)

    def sent(self) -> Mapping[Content, Sent]:
        """By content."""
        with self._lock:
            answers = Counter(self._answers)
        return {
            content: Sent(*(answers[content, answer] for answer in Answer))
            for content in {content for content, _ in answers}
        }

    def kept(self) -> Mapping[Variant, list[Content]]:
        """The contents that were acknowledged, by how they came to be."""
        with self._lock:
            kept = [each for each, answer in self._answers if answer is Answer.ACKNOWLEDGED]
            return {
                variant: [each for each in kept if self._variants[each] is variant]
                for variant in Variant
            }
