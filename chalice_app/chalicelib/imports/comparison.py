"""Whether two objects are the same bytes: asked where their checksums are, which can be forged.

Reading takes time, and an invocation has little: so many bytes are compared in one, and the rest in
the next, which finds done what this one has done.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple

from chalicelib.errors import ObjectDenied, ObjectUnavailable
from chalicelib.stores.files import Files
from chalicelib.threads import in_threads
from contract.records import InstanceRecord

# Of one object, and of all in one invocation. Each byte is read twice, and once more where the
# bytes are others, by a function of 512 MB that reads some 50 MB/s and has 300 s.
MAX_OBJECT_BYTES = MAX_BYTES = 4 * 1024**3


class Verdict(Enum):
    """What comparing two objects showed."""

    SAME = auto()
    OTHER_BYTES = auto()
    UNKNOWN = auto()  # one is gone, may not be read, or is too large
    LATER = auto()  # nobody has looked yet


class Pair(NamedTuple):
    """A row of the batch, and another batch's with the same checksum."""

    row: InstanceRecord
    other: InstanceRecord

    @property
    def keys(self) -> tuple[str, str]:
        """The objects."""
        return self.row.key, self.other.key


@dataclass(slots=True)
class Comparison:
    """Compares the objects of rows, each pair once.

    A row that a digest names is compared by that: its own object need not be there any more.
    """

    files: Files
    left: int = MAX_BYTES
    _known: dict[tuple[str, str], Verdict] = field(default_factory=dict)
    _digests: dict[str, str] = field(default_factory=dict)

    def of(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """A verdict for each pair. Raises ServiceUnavailable."""
        new = [pair for pair in pairs if pair.keys not in self._known and self._fits(pair)]
        found = in_threads(self._compare, new)
        self._known |= {pair.keys: verdict for pair, verdict in zip(new, found, strict=True)}
        return [self._known.get(pair.keys, Verdict.LATER) for pair in pairs]

    def _fits(self, pair: Pair) -> bool:
        size = pair.row.size if pair.row.size <= MAX_OBJECT_BYTES else 0
        fits = size <= self.left
        self.left -= size if fits else 0
        return fits

    def _compare(self, pair: Pair) -> Verdict:
        if pair.row.size > MAX_OBJECT_BYTES:
            return Verdict.UNKNOWN
        try:
            is_same = self._is_same(pair)
        except (ObjectUnavailable, ObjectDenied):
            return Verdict.UNKNOWN
        return Verdict.SAME if is_same else Verdict.OTHER_BYTES

    def _is_same(self, pair: Pair) -> bool:
        if pair.other.is_named:
            return self._digest_of(pair.row.key) == pair.other.beside
        if self.files.same(*pair.keys):
            return True
        self._digest_of(pair.row.key)  # it will be named by that
        return False

    def digest(self, row: InstanceRecord) -> str | None:
        """The SHA-256 of the object of a row that was found to be other bytes.

        None if nobody can tell. Raises ServiceUnavailable.
        """
        try:
            return self._digest_of(row.key)
        except (ObjectUnavailable, ObjectDenied):
            return None

    def _digest_of(self, key: str) -> str:
        if key not in self._digests:
            self._digests[key] = str(self.files.digest(key))
        return self._digests[key]
