"""Which of a batch's instances another batch imports, and making the others the batch's own.

An instance is imported by the batch whose row it is. So a batch that begins takes the rows of its
instances, except where another batch stands by the same bytes: it has imported them, or is alive
and has the object. Both cannot begin with the same instance, however their steps interleave.

That two checksums are equal only says that the two objects have to be compared, whether the other
batch stands by its own or has failed (``imports.claim_rules``). Mostly the first row with a
checksum decides, and no other's object is read. All are where it does not, and for a batch that
repeats another: that one's rows may never have been compared with any.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from chalicelib.errors import ServiceUnavailable
from chalicelib.imports.aside import places
from chalicelib.imports.claim_rules import Answer, Facts, Left, decide, folded
from chalicelib.imports.comparison import Comparison, Pair, Verdict
from chalicelib.imports.context import ImportContext
from chalicelib.imports.deletion import forget
from chalicelib.imports.image_sets import ImageSets
from chalicelib.imports.rows import instance_row
from chalicelib.stores.files import exists
from chalicelib.stores.instances import Change, Rows, all_of, shared_and_own, swap
from chalicelib.threads import in_threads
from contract.batch_states import ENDED
from contract.keys import RowKey, bytes_name
from contract.manifest import ManifestInstance
from contract.records import BatchRecord, InstanceRecord, InstanceState


@dataclass(frozen=True, slots=True)
class Claimant:
    """A batch that is about to be imported into a data store.

    ``skips_duplicates`` unless it imports whatever others import as well; ``was_asked`` if a start
    was asked for before: then what is the batch's own stays so. ``repeats`` if it is a retry's or a
    release's.
    """

    batch_id: str
    datastore_id: str
    skips_duplicates: bool
    was_asked: bool
    repeats: bool
    now: datetime


@dataclass(slots=True)
class Claims:
    """The keys of the objects that other batches import, and of those to be compared later."""

    duplicates: set[str] = field(default_factory=set)
    undecided: set[str] = field(default_factory=set)


def claim(
    claimant: Claimant, instances: Iterable[ManifestInstance], context: ImportContext
) -> Claims:
    """Take what can be taken; returns what was left to other batches.

    An image set that another's instance should be in is asked for; what was in one that is gone is
    marked. Safe to repeat. Raises ServiceUnavailable, and the errors of ``imports.healthimaging``.
    """
    ledger = context.stores.instances
    rows = [
        instance_row(
            claimant.batch_id, claimant.datastore_id, each, InstanceState.RECEIVED, claimant.now
        )
        for each in instances
    ]
    claiming = _Claiming(claimant, context, rows)
    if not claimant.repeats:
        keys = [row.row_key for row in rows]
        swap(ledger, keys, claiming.by_first, partial(shared_and_own, ledger, claimant.batch_id))
    keys = [row.row_key for row in claiming.left.values()]
    swap(ledger, keys, claiming.by_all, partial(all_of, ledger))
    claiming.leave()
    for image_set_id, study in claiming.kept.gone().items():
        context.stores.image_sets.note(image_set_id, study)  # of an import that did not do so yet
        forget([image_set_id], context)
    return claiming.claims


class _Claiming:
    """What becomes of each of a batch's rows; ``left``, by key, are those still to be decided."""

    def __init__(
        self, claimant: Claimant, context: ImportContext, rows: Sequence[InstanceRecord]
    ) -> None:
        self.claims = Claims()
        self.left = {row.key: row for row in rows} if claimant.repeats else {}
        self.kept = ImageSets(claimant.datastore_id, context.service)
        self._left_to: dict[str, Left] = {}
        self._claimant = claimant
        self._context = context
        self._rows = rows
        self._comparison = Comparison(context.files)
        self._batches: dict[str, BatchRecord | None] = {}

    def by_first(self, known: Rows, instances: Set[str]) -> list[Change]:
        """As the first row with each checksum decides; what it does not decide, is ``left``."""
        rows = [row for row in self._rows if row.instance in instances]
        return self._changes(rows, known, knows_first_only=True)

    def by_all(self, known: Rows, instances: Set[str]) -> list[Change]:
        """As all rows with each checksum decide."""
        rows = [row for row in self.left.values() if row.instance in instances]
        return self._changes(rows, known, knows_first_only=False)

    def _changes(
        self, rows: Sequence[InstanceRecord], known: Rows, *, knows_first_only: bool
    ) -> list[Change]:
        for row in rows:  # of an earlier look at the same, whose changes were refused
            self.claims.undecided.discard(row.key)
            self._left_to.pop(row.key, None)
        of_content = defaultdict[RowKey, list[InstanceRecord]](list)
        for each in known.values():
            of_content[each.content_key].append(each)
        ours = {row.key: [*filter(self._is_ours, of_content[row.row_key])] for row in rows}
        settled = {row.key for row in rows if self._is_settled(ours[row.key])}
        open_rows = [row for row in rows if row.key not in settled]
        pairs = [
            (row, other)
            for row in open_rows
            for other in of_content[row.row_key]
            if not self._is_ours(other)
        ]
        standing, verdicts = self._said(pairs)
        others = defaultdict[str, dict[InstanceRecord, Verdict | None]](dict)
        for row, other in pairs:
            others[row.key][other] = verdicts.get((row.key, other.key))
        changes = [change for key in settled for change in folded(ours[key])]
        for row in open_rows:
            facts = Facts(row, ours[row.key], others[row.key], standing)
            changes += self._decided(facts, knows_first_only=knows_first_only)
        return changes

    def _decided(self, facts: Facts, *, knows_first_only: bool) -> list[Change]:
        row = facts.row
        plan = decide(facts, partial(self._name, row), knows_first_only=knows_first_only)
        if plan.left is not None:
            self._left_to[row.key] = plan.left
        elif plan.answer is Answer.LATER:
            self.claims.undecided.add(row.key)
        elif plan.answer is Answer.UNDECIDED:
            self.left[row.key] = row
        return plan.changes

    def _name(self, row: InstanceRecord) -> str | None:
        digest = self._comparison.digest(row)
        return digest and bytes_name(digest, self._claimant.datastore_id)

    def _is_ours(self, row: InstanceRecord) -> bool:
        return row.batch_id == self._claimant.batch_id

    def _is_settled(self, mine: Sequence[InstanceRecord]) -> bool:
        """Whether nothing is left to be decided: the batch has a row whose object was compared.

        Of a new batch, that is any but a copy; a retry's or release's has inherited its rows.
        """
        if self._claimant.was_asked:
            return bool(mine)
        has_own = not self._claimant.repeats and any(not each.is_copy for each in mine)
        return has_own or any(each.compared for each in mine)

    def _said(
        self, found: Sequence[tuple[InstanceRecord, InstanceRecord]]
    ) -> tuple[Set[str], dict[tuple[str, str], Verdict]]:
        """What other batches stand by; and what comparing the objects showed, by their keys."""
        alive = self._alive([other for _, other in found])
        # Two batches that wait must not leave an instance to each other (imports.claim_rules).
        asked = [(row, other) for row, other in found if not (other.is_copy and other in alive)]
        pairs = [Pair(*each) for each in asked]
        standing = self._standing([pair.other for pair in pairs if not pair.is_elsewhere], alive)
        if not self._claimant.skips_duplicates:  # what others stand by need not be compared
            pairs = [
                pair for pair in pairs if not pair.is_elsewhere and pair.other.key not in standing
            ]
        verdicts = self._comparison.of(pairs)
        return standing, {pair.keys: each for pair, each in zip(pairs, verdicts, strict=True)}

    def _alive(self, rows: Sequence[InstanceRecord]) -> Set[InstanceRecord]:
        """The rows that wait for their import in a batch that has not ended."""
        waiting = [row for row in rows if row.state is InstanceState.RECEIVED]
        batch_ids = sorted({row.batch_id for row in waiting} - self._batches.keys())
        found = in_threads(self._context.stores.batches.get, batch_ids)
        self._batches |= zip(batch_ids, found, strict=True)
        batches = ((row, self._batches[row.batch_id]) for row in waiting)
        return {row for row, batch in batches if batch and batch.state not in ENDED}

    def _standing(self, rows: Sequence[InstanceRecord], alive: Set[InstanceRecord]) -> Set[str]:
        """The keys of the rows whose objects are, or will be, in the claimant's data store.

        An image set that is gone has nothing.
        """
        imported = [row for row in rows if row.state is InstanceState.IMPORTED]
        keys = [row.key for row in rows if row in alive]
        files = self._context.files
        exist = in_threads(lambda key: any(exists(each, files) for each in places(key)), keys)
        there = {key for key, is_there in zip(keys, exist, strict=True) if is_there}
        return self.kept.keep(imported) | there

    def leave(self) -> None:
        """Leave the duplicates to other batches, once it is sure that they have them.

        Another batch's change may have been seen half: a Query can show one row as it was before a
        transaction and another as after it.
        https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis.html
        Raises ServiceUnavailable.
        """
        ledger, left = self._context.stores.instances, self._left_to.values()
        promotions = [(each.first, each.to) for each in left if each.first]
        done = in_threads(lambda each: ledger.promote(*each), promotions)
        keys = [each.to.row_key for each in left if not each.first]
        known = ledger.get_many(keys)
        if not all(done) or any(key not in known or self._is_ours(known[key]) for key in keys):
            raise ServiceUnavailable("other batches changed the same instances")
        self.claims.duplicates |= self._left_to.keys()
