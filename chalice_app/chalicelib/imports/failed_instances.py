"""What was in a batch whose import failed, into the ledger; what was imported stays so."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from chalicelib.imports.aside import bring_back, failed_key, move_all
from chalicelib.imports.context import ImportContext
from chalicelib.imports.execution import Execution, Failure
from chalicelib.imports.rows import instance_row
from chalicelib.imports.salvage import Contents
from chalicelib.imports.sweep import moved_duplicates
from chalicelib.stores import instances as ledger
from contract.batch_states import ENDED
from contract.manifest import Manifest, ManifestInstance
from contract.records import BatchRecord, Counts, InstanceRecord, InstanceState

_FAILED = "the batch's import failed; the ledger has the reason"


@dataclass(frozen=True, slots=True)
class FailedImport:
    """What is told as failed, and what was known before: the batch's record, and what was in it.

    ``datastore_id`` is the batch's.
    ``looked_for`` is the mark of the start whose job was looked for, where there is none.
    """

    execution: Execution
    datastore_id: str
    job_id: str
    why: Failure
    looked_for: datetime | None
    batch: BatchRecord | None
    found: Contents

    @property
    def adds(self) -> bool:
        """Whether rows may be made: an earlier try that has ended the batch has made them."""
        return self.batch is None or self.batch.state not in ENDED


def fail_instances(
    failed: FailedImport, context: ImportContext
) -> tuple[Counts, list[InstanceRecord]]:
    """All but those that this batch, or another before it, is known to have imported.

    Returns how they add up, and the rows of all but duplicates. What only the batch's count knows
    of has failed as well. Raises ServiceUnavailable.
    """
    found, batch, why = failed.found, failed.batch, failed.why
    state, now = InstanceState.FAILED, context.now
    others = [
        replace(row, state=state, job_id=failed.job_id, reason=why.reason, updated_at=now)
        for row in found.others
    ]
    if found.manifest is None:
        rows = context.record(failed.execution.batch_id, others, adds=failed.adds)
        counts = Counts(len(rows), imported=sum(map(ledger.was_imported, rows)))
    else:
        counts, rows = _fail_listed(failed, found.manifest, others, context)
    total = counts.instances
    if found.is_rebuilt and batch is not None:
        total = max(total, batch.counts.instances)
    return replace(counts, instances=total, failed=total - counts.imported), rows


def _fail_listed(
    failed: FailedImport,
    manifest: Manifest,
    others: Sequence[InstanceRecord],
    context: ImportContext,
) -> tuple[Counts, list[InstanceRecord]]:
    """The same of the manifest's instances, and of the ``others``, whose objects are gone."""
    imported = imported_rows(manifest, context)
    listed = {each.key for each in manifest.instances}
    aside = moved_duplicates(manifest, context.files) & listed - imported.keys()
    left = [each for each in manifest.instances if each.key not in imported.keys() | aside]
    ended = [*others, *_failed_rows(failed, left, context)]
    rows = context.record(manifest.batch_id, ended, adds=failed.adds)
    # The ledger has read them again: what was recorded as imported meanwhile stays so.
    imported |= {row.key: row for row in rows if ledger.was_imported(row)}
    if imported:
        bring_back(context.files, manifest.batch_id, imported.keys())
    total, kept = len(listed) + len(others), len(imported) + len(aside)
    return Counts(total, imported=kept, duplicates=len(aside)), [*rows, *imported.values()]


def _failed_rows(
    failed: FailedImport, left: Sequence[ManifestInstance], context: ImportContext
) -> list[InstanceRecord]:
    """Their objects are moved out of what could be imported."""
    stay = move_all(context.files, [each.key for each in left], failed_key, _FAILED)
    batch_id, job_id, reason = failed.execution.batch_id, failed.job_id, failed.why.reason
    store, state, now = failed.datastore_id, InstanceState.FAILED, context.now
    rows = [
        instance_row(batch_id, store, each, state, now, job_id=job_id, reason=reason)
        for each in left
    ]
    return [row if row.key in stay else replace(row, key=failed_key(row.key)) for row in rows]


def imported_rows(manifest: Manifest, context: ImportContext) -> dict[str, InstanceRecord]:
    """What this batch is known to have imported, by the keys of its objects."""
    wanted = [each.row_key for each in manifest.instances]
    known = ledger.own_rows(context.stores.instances, manifest.batch_id, wanted)
    return {row.key: row for row in known.values() if ledger.was_imported(row)}
