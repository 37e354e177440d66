"""Whether two objects are the same bytes: asked where their checksums are, which can be forged.

Reading takes time, and an invocation has little: so many bytes are compared in one, and the rest in
the next, which finds done what this one has done.
"""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple

from chalicelib.errors import ObjectDenied, ObjectMissing, ObjectUnavailable
from chalicelib.imports.aside import places
from chalicelib.stores.files import Files
from chalicelib.threads import in_threads
from contract.checksums import Checksum
from contract.records import InstanceRecord

# Of one instance, and of all in one invocation: the sizes of the batch's objects, once for each
# pair of objects. Both are read, and the batch's once more where the bytes are not the same, by a
# function of 512 MB that reads some 50 MB/s and has 300 s.
MAX_BYTES = 4 * 1024**3


class Verdict(Enum):
    """What comparing two objects showed."""

    SAME = auto()
    OTHER_BYTES = auto()
    UNKNOWN = auto()  # one is gone, may not be read, is too large, or is for another data store
    LATER = auto()  # nobody has looked yet


class Pair(NamedTuple):
    """A row of the batch, and another batch's with the same checksum.

    What is for another data store, ``is_elsewhere``, is not compared.
    """

    row: InstanceRecord
    other: InstanceRecord

    @property
    def is_elsewhere(self) -> bool:
        """Whether the two are for different data stores."""
        return self.row.datastore_id != self.other.datastore_id

    @property
    def keys(self) -> tuple[str, str]:
        """The objects."""
        return self.row.key, self.other.key


@dataclass(slots=True)
class Comparison:
    """Compares the objects of rows, each pair once.

    A row that a digest names is compared by that: its own object need not be there any more. Of
    what is not the same, the digest is read as well: it will name the batch's row
    (``imports.claim_rules``).
    """

    files: Files
    left: int = MAX_BYTES
    _known: dict[tuple[str, str], Verdict] = field(default_factory=dict)
    _digests: dict[str, str | None] = field(default_factory=dict)
    _spent: dict[str, int] = field(default_factory=dict)

    def of(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """A verdict for each pair. Raises ServiceUnavailable."""
        of_row = defaultdict[str, list[Pair]](list)
        for pair in pairs:
            if pair.keys not in self._known and self._fits(pair):
                of_row[pair.row.key].append(pair)
        for found in in_threads(self._compare_all, [*of_row.values()]):
            self._known |= found
        return [self._known.get(pair.keys, Verdict.LATER) for pair in pairs]

    def _fits(self, pair: Pair) -> bool:
        """Whether it is decided now. What no invocation has time to compare, is UNKNOWN."""
        row = pair.row
        is_read = row.key in self._spent and (pair.is_elsewhere or pair.other.is_named)
        size = 0 if is_read else row.size
        spent = self._spent.get(row.key, 0) + size
        if spent > MAX_BYTES:
            self._known[pair.keys] = Verdict.UNKNOWN
        elif size > self.left:
            return False
        else:
            self.left -= size
            self._spent[row.key] = spent
        return True

    def _compare_all(self, pairs: Sequence[Pair]) -> dict[tuple[str, str], Verdict]:
        """Pairs of one row."""
        return {pair.keys: self._compare(pair) for pair in pairs}

    def _compare(self, pair: Pair) -> Verdict:
        verdict = self._known.get(pair.keys) or self._compared(pair)
        self.digest(pair.row)
        return verdict

    def _compared(self, pair: Pair) -> Verdict:
        row, other = pair.row, pair.other
        if pair.is_elsewhere:
            return Verdict.UNKNOWN
        if other.is_named:
            digest = self.digest(row)
            return Verdict.UNKNOWN if digest is None else _verdict(digest == other.sha256)
        try:
            of_both = self._digest_of_both(row.key, other.key)
        except (ObjectUnavailable, ObjectDenied):
            return Verdict.UNKNOWN
        if of_both is not None:
            self._digests[row.key] = str(of_both)
        return _verdict(of_both is not None)

    def _digest_of_both(self, key: str, other: str) -> Checksum | None:
        """The digest of two objects that are the same; None if they are not.

        A batch whose execution died while it failed may have put its object aside, and its row does
        not say so. The next execution may be bringing it back: then it is at either place.
        """
        for place in places(other):
            with suppress(ObjectMissing):
                return self.files.digest_of_both(key, place)
        raise ObjectMissing("the object of one of the two is gone")

    def digest(self, row: InstanceRecord) -> str | None:
        """The SHA-256 of a row's object; None if nobody can tell. Raises ServiceUnavailable."""
        if row.key not in self._digests:
            self._digests[row.key] = self._digest(row)
        return self._digests[row.key]

    def _digest(self, row: InstanceRecord) -> str | None:
        if row.size > MAX_BYTES:
            return None
        try:
            return str(self.files.digest(row.key))
        except (ObjectUnavailable, ObjectDenied):
            return None


def _verdict(is_same: bool) -> Verdict:
    return Verdict.SAME if is_same else Verdict.OTHER_BYTES
