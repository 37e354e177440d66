"""Which of a batch's instances another batch imports, and making the others the batch's own.

An instance is imported by the batch whose row it is. So a batch that begins takes the rows of its
instances, except where another batch stands by the same bytes: it has imported them, or is alive
and has the object. Both cannot begin with the same instance, however their steps interleave.

That two checksums are equal only says that the two objects have to be compared, whether the other
batch stands by its own or has failed (``imports.claim_rules``). Mostly the first row with a
checksum decides, and no other is read. All are read where it does not, and for a batch that repeats
another: that one's rows may never have been compared with any.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from chalicelib.errors import ServiceUnavailable
from chalicelib.imports.claim_rules import Answer, Facts, decide, folded
from chalicelib.imports.comparison import Comparison, Pair, Verdict
from chalicelib.imports.context import ImportContext
from chalicelib.imports.deletion import forget
from chalicelib.imports.image_sets import ImageSets
from chalicelib.imports.rows import instance_row
from chalicelib.stores.files import exists
from chalicelib.stores.instances import Change, Rows, all_of, shared_and_own, swap
from chalicelib.threads import in_threads
from contract.batch_states import ENDED
from contract.keys import RowKey
from contract.manifest import ManifestInstance
from contract.records import BatchRecord, InstanceRecord, InstanceState, JobRecord


@dataclass(frozen=True, slots=True)
class Claimant:
    """A batch that is about to be imported into a data store; others' may name none.

    ``skips_duplicates`` unless it imports whatever others import as well; ``was_asked`` if a start
    was asked for before: then what is the batch's own stays so. ``repeats`` if it is a retry's or a
    release's.
    """

    batch_id: str
    datastore_id: str
    default_datastore_id: str
    skips_duplicates: bool
    was_asked: bool
    repeats: bool
    now: datetime


@dataclass(slots=True)
class Claims:
    """The keys of the batch's objects that other batches import, and of those not compared yet."""

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
        instance_row(claimant.batch_id, each, InstanceState.RECEIVED, claimant.now)
        for each in instances
    ]
    claiming = _Claiming(claimant, context, rows)
    if not claimant.repeats:
        keys = [row.row_key for row in rows]
        swap(ledger, keys, claiming.by_first, partial(shared_and_own, ledger, claimant.batch_id))
    keys = [row.row_key for row in claiming.left.values()]
    swap(ledger, keys, claiming.by_all, partial(all_of, ledger))
    for first, other in claiming.promoted.values():
        if not ledger.promote(first, other):
            raise ServiceUnavailable("other batches changed the same instances")
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
        self.promoted: dict[str, tuple[InstanceRecord, InstanceRecord]] = {}
        self.kept = ImageSets(claimant.datastore_id, context.service)
        self._claimant = claimant
        self._context = context
        self._rows = rows
        self._comparison = Comparison(context.files)
        self._batches: dict[str, BatchRecord | None] = {}

    def by_first(self, known: Rows) -> list[Change]:
        """As the first row with each checksum decides; what it does not decide, is ``left``."""
        return self._changes(self._rows, known, knows_first_only=True)

    def by_all(self, known: Rows) -> list[Change]:
        """As all rows with each checksum decide."""
        return self._changes([*self.left.values()], known, knows_first_only=False)

    def _changes(
        self, rows: Sequence[InstanceRecord], known: Rows, *, knows_first_only: bool
    ) -> list[Change]:
        of_content = defaultdict[RowKey, list[InstanceRecord]](list)
        for each in known.values():
            of_content[each.content_key].append(each)
        ours = {row.key: [*filter(self._is_ours, of_content[row.row_key])] for row in rows}
        settled = {row.key for row in rows if self._is_settled(ours[row.key])}
        open_rows = [row for row in rows if row.key not in settled]
        pairs = [
            Pair(row, other)
            for row in open_rows
            for other in of_content[row.row_key]
            if not self._is_ours(other)
        ]
        # Two batches that each have a row must not both leave the instance to the other.
        asked = [pair for pair in pairs if not (ours[pair.row.key] and self._is_behind(pair.other))]
        standing, verdicts = self._said(asked)
        others = defaultdict[str, dict[InstanceRecord, Verdict | None]](dict)
        for pair in pairs:
            others[pair.row.key][pair.other] = verdicts.get(pair.keys)
        changes = [change for key in settled for change in folded(ours[key])]
        for row in open_rows:
            facts = Facts(row, ours[row.key], others[row.key], standing)
            changes += self._decided(facts, knows_first_only=knows_first_only)
        return changes

    def _decided(self, facts: Facts, *, knows_first_only: bool) -> list[Change]:
        row = facts.row
        plan = decide(
            facts, partial(self._comparison.digest, row), knows_first_only=knows_first_only
        )
        # Of an earlier look at the same, whose changes were refused.
        self.claims.duplicates.discard(row.key)
        self.claims.undecided.discard(row.key)
        self.promoted.pop(row.key, None)
        if plan.promoted is not None:
            self.promoted[row.key] = plan.promoted
        if plan.answer is Answer.DUPLICATE:
            self.claims.duplicates.add(row.key)
        elif plan.answer is Answer.LATER:
            self.claims.undecided.add(row.key)
        elif plan.answer is Answer.UNDECIDED:
            self.left[row.key] = row
        return plan.changes

    def _is_behind(self, other: InstanceRecord) -> bool:
        """Whether a newer batch waits for its import: it will leave the instance to this one."""
        if other.state is not InstanceState.RECEIVED or other.batch_id < self._claimant.batch_id:
            return False
        batch = self._batch(other.batch_id)
        return batch is not None and batch.state not in ENDED and batch.start_asked_at is None

    def _batch(self, batch_id: str) -> BatchRecord | None:
        if batch_id not in self._batches:
            self._batches[batch_id] = self._context.stores.batches.get(batch_id)
        return self._batches[batch_id]

    def _is_ours(self, row: InstanceRecord) -> bool:
        return row.batch_id == self._claimant.batch_id

    def _is_settled(self, mine: Sequence[InstanceRecord]) -> bool:
        """Whether nothing is left to be decided: the batch has a row whose object was compared."""
        if self._claimant.was_asked or not mine:
            return bool(mine)
        if self._claimant.repeats:
            return any(each.is_named for each in mine)
        return any(not each.is_copy for each in mine)

    def _said(self, pairs: Sequence[Pair]) -> tuple[set[str], dict[tuple[str, str], Verdict]]:
        """What other batches stand by; and what comparing the objects showed, by their keys."""
        standing, elsewhere = self._standing([pair.other for pair in pairs])
        # What others stand by, and this batch imports as well, need not be compared.
        passed = elsewhere if self._claimant.skips_duplicates else elsewhere | standing
        asked = [pair for pair in pairs if pair.other.key not in passed]
        found = self._comparison.of(asked)
        return standing, {pair.keys: each for pair, each in zip(asked, found, strict=True)}

    def _standing(self, rows: Collection[InstanceRecord]) -> tuple[set[str], set[str]]:
        """The objects of rows that are, or will be, in the claimant's data store; and in another.

        By the rows' keys. An image set that is gone has nothing.
        """
        stores, kept = self._context.stores, self.kept
        imported = [row for row in rows if row.state is InstanceState.IMPORTED]
        jobs = {
            job_id: stores.jobs.get(job_id) if job_id else None
            for job_id in {row.job_id for row in imported}
        }
        waiting = [row for row in rows if row.state is InstanceState.RECEIVED]
        elsewhere = {
            row.key for row in imported if (job := jobs.get(row.job_id)) and not self._is_here(job)
        }
        # Where a job's record is gone, the image set alone decides.
        here = {
            row.key
            for row in imported
            if row.key not in elsewhere
            and (row.image_set_id or jobs.get(row.job_id))
            and kept.keep(row)
        }
        alive = [
            row.key
            for row in waiting
            if (batch := self._batch(row.batch_id))
            and batch.state not in ENDED
            and self._is_here(batch)
        ]
        exist = in_threads(lambda key: exists(key, self._context.files), alive)
        return here | {
            key for key, is_there in zip(alive, exist, strict=True) if is_there
        }, elsewhere

    def _is_here(self, record: JobRecord | BatchRecord) -> bool:
        claimant = self._claimant
        return (record.datastore_id or claimant.default_datastore_id) == claimant.datastore_id
