"""What a batch does about one of its instances, by what others have with the same checksum. Pure.

=============== ============================= ====================================================
the objects are the other batch stands by it  it does not: it failed, was deleted, is dead
=============== ============================= ====================================================
the same        a duplicate                   the row becomes this batch's
other bytes     a row beside it, which this batch's bytes name; a copy, where they cannot be read
not comparable  as for other bytes: a second copy can be deleted, a lost image cannot be recovered
to be compared  next time: the import is not started yet
=============== ============================= ====================================================

A row for another data store counts as not comparable: it says nothing of this one, so nothing is
left to it, and it is not taken over.

The first row with a checksum decides nearly always. Where it is not the same, those beside it are
looked at, too.

Two batches that wait must not both leave an instance to the other, nor both import it. A *copy* is
a row whose key ends in its batch's id: its own object cannot be read, it is to be imported whatever
others import, or nobody has compared it yet. While it waits, nothing is left to it. So a batch that
waits can be left an instance on two rows only: the first, and the *named row*, whose key ends in
the SHA-256 of the bytes and the data store.

- Each of the two is made or taken only while the other is as it was read, or absent. While objects
  are compared, the first may change hands, and a batch that could not compare may make the other.
- The batch of the first row gives it up only by putting the named row in its place, if that is as
  it was read. The batch of the named row gives it up only by deleting it as it was read.

What was compared and is the batch's own is marked ``compared``: the next try compares only what is
left.
"""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import NamedTuple

from chalicelib.imports.comparison import Verdict
from chalicelib.stores.instances import Change, copy_of
from contract.keys import RowKey
from contract.records import InstanceRecord


class Answer(Enum):
    """What becomes of the instance."""

    OURS = auto()
    DUPLICATE = auto()
    LATER = auto()  # something is still to be compared
    UNDECIDED = auto()  # the rows beside the first are to be looked at


@dataclass(frozen=True, slots=True)
class Facts:
    """What there is of one instance and checksum.

    ``row`` is the batch's, as it would be the first with its checksum; ``mine`` those that it has.
    ``others`` are those of other batches, with what comparing the objects showed. It is None if
    they were not compared: this batch imports its own in any case, or the other is a copy that
    waits. ``standing`` are the keys of the objects that other batches stand by.
    """

    row: InstanceRecord
    mine: Sequence[InstanceRecord]
    others: Mapping[InstanceRecord, Verdict | None]
    standing: Set[str]

    @property
    def first(self) -> InstanceRecord | None:
        """The other batch's row that is the first with the checksum."""
        return next((each for each in self.others if each.row_key == self.row.row_key), None)

    @property
    def same(self) -> list[InstanceRecord]:
        """The rows of the same bytes."""
        return [each for each, verdict in self.others.items() if verdict is Verdict.SAME]


class Left(NamedTuple):
    """The row that an instance is left to; and the batch's own, if that is the first.

    Then the other has to take its place. A checksum must always have a first row, since lookups
    begin there.
    """

    to: InstanceRecord
    first: InstanceRecord | None


@dataclass(frozen=True, slots=True)
class Plan:
    """The answer, and the changes that make it true, in their order.

    ``left`` is set for a duplicate.
    """

    answer: Answer
    changes: list[Change] = field(default_factory=list)
    left: Left | None = None


def decide(facts: Facts, name: Callable[[], str | None], *, knows_first_only: bool) -> Plan:
    """``name`` reads the object, for what its bytes are named by; None if nobody can."""
    if standing := [each for each in facts.same if each.key in facts.standing]:
        first_of_mine = next((each for each in facts.mine if each.beside is None), None)
        gone = [Change(each, None) for each in facts.mine if each is not first_of_mine]
        return Plan(Answer.DUPLICATE, gone, Left(standing[0], first_of_mine))
    if Verdict.LATER in facts.others.values():
        return Plan(Answer.LATER)
    first = facts.first
    if knows_first_only and first and facts.others[first] not in (Verdict.SAME, None):
        return Plan(Answer.UNDECIDED)
    return Plan(Answer.OURS, _taken(facts, name))


def folded(mine: Sequence[InstanceRecord]) -> list[Change]:
    """Where the batch also has a row that was compared, its copy goes.

    The copy goes first: without a row, the batch takes one the next time; with two, it might not
    see this one.
    """
    has_more = any(not each.is_copy for each in mine)
    return [Change(each, None) for each in mine if each.is_copy and has_more]


def _taken(facts: Facts, name: Callable[[], str | None]) -> list[Change]:
    """A row becomes, or stays, the batch's own; those of the same bytes, beside the first, go.

    They go first, each only if it is as it was read: if one was imported since, nothing is taken.
    """
    place, there = _place(facts, name)
    has_more = [each for each in facts.mine if not each.is_copy]
    stays = has_more or (facts.mine if place.is_copy else [])
    if stays:
        there, changes = None, [*folded(facts.mine), *_marked(stays[0], facts)]
    else:
        row = replace(place, compared=bool(facts.others))
        guard = _guard(place, facts, name)
        changes = [*(Change(each, None) for each in facts.mine), Change(there, row, guard)]
    gone = [each for each in facts.same if each is not there and each is not facts.first]
    return [*(Change(each, None) for each in gone), *changes]


def _guard(
    place: InstanceRecord, facts: Facts, name: Callable[[], str | None]
) -> tuple[RowKey, InstanceRecord | None] | None:
    """The other of the two rows that the same bytes may have, as it was read."""
    if facts.first is None or place.is_copy:
        return None
    if place.is_named:
        return facts.first.row_key, facts.first
    if (known := name()) is None:
        return None
    key = place.row_key.beside(known)
    # What is the same goes in an earlier turn (``_taken``).
    there = (each for each in facts.others if each.row_key == key and each not in facts.same)
    return key, next(there, None)


def _marked(row: InstanceRecord, facts: Facts) -> list[Change]:
    """The batch's row, once it was compared with others, if there are any."""
    return [Change(row, replace(row, compared=True))] if facts.others else []


def _place(
    facts: Facts, name: Callable[[], str | None]
) -> tuple[InstanceRecord, InstanceRecord | None]:
    """The row that the batch would have, and the one that it takes the place of."""
    row, first = facts.row, facts.first
    verdict = facts.others[first] if first else Verdict.SAME
    if verdict is Verdict.SAME:
        return row, first
    if verdict is not None and (known := name()):
        place = replace(row, beside=known, differs=verdict is Verdict.OTHER_BYTES)
        there = next((each for each in facts.others if each.row_key == place.row_key), None)
        if there is None:
            return place, None
        if there in facts.same:
            return replace(place, differs=place.differs or there.differs), there
    return copy_of(row), None
