"""What a job that HealthImaging completed made of its batch, into the records.

Instances first, then the batch, then the job: a job seen COMPLETED has all its results. What was
recorded otherwise before (a failure that turns out to be none) is corrected in the same order.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from datetime import datetime

import structlog

from chalicelib.errors import ObjectDenied, ObjectUnavailable
from chalicelib.imports.aside import bring_back, failed_key, move_all
from chalicelib.imports.context import ImportContext
from chalicelib.imports.deletion import settle_deletions
from chalicelib.imports.execution import Execution
from chalicelib.imports.healthimaging import ImportView
from chalicelib.imports.inventory import Held, results_of
from chalicelib.imports.measures import report_correction, report_end
from chalicelib.imports.outcome import NOT_REPORTED, Outcome, Results, read_results
from chalicelib.imports.outcomes import keep_outcomes
from chalicelib.imports.results import read_result_files, results_folder
from chalicelib.imports.rows import closed_batch, ending, failures, instance_row, target
from chalicelib.imports.salvage import told_by_objects
from chalicelib.imports.sweep import moved_duplicates
from chalicelib.stores import instances as ledger
from chalicelib.stores.objects import read_manifest
from chalicelib.threads import in_threads
from contract.batch_states import ENDED, BatchEvent
from contract.errors import InvalidKey, InvalidManifest
from contract.manifest import Manifest, ManifestInstance
from contract.records import (
    BatchRecord,
    BatchState,
    Counts,
    InstanceRecord,
    InstanceState,
    JobRecord,
    JobStatus,
)

_FAILED = "not imported; the ledger has HealthImaging's reason"
_log = structlog.get_logger()
_CORRECTED = "recorded as failed before; HealthImaging has imported it after all"


def complete(
    execution: Execution, job: JobRecord, view: ImportView, context: ImportContext
) -> JobRecord:
    """Record the results of a job that HealthImaging calls COMPLETED. Safe to repeat.

    Raises ResultsNotReady, ResultsNotUnderstood, ObjectDenied, ObjectUnavailable, InvalidManifest,
    ServiceUnavailable.
    """
    manifest = manifest_of(execution, context)
    folder = results_folder(view.output_s3_uri, job.datastore_id, job.job_id)
    files = read_result_files(context.stores.objects, folder)
    results = read_results(manifest, files, moved_duplicates(manifest, context.files))
    return _record(execution, replace(job, output_s3_uri=folder), manifest, results, context)


def complete_without_results(
    execution: Execution, job: JobRecord, context: ImportContext
) -> JobRecord | None:
    """The same from HealthImaging's image sets, where result files will not come any more.

    None, and nothing recorded, if there is nothing of the batch in them. Raises the errors of
    ``imports.healthimaging``, too.
    """
    manifest = manifest_of(execution, context)
    held: dict[str, Held] = {}
    for study in manifest.studies:
        held |= context.service.inventory(job.datastore_id, study)
    results = results_of(manifest, held, moved_duplicates(manifest, context.files))
    if not results.image_set_ids:
        return None
    _log.warning("results_lost", batch_id=job.batch_id, found=results.counts.imported)
    return _record(execution, job, manifest, results, context)


@dataclass(frozen=True, slots=True)
class _End:
    """A job's end. ``known`` are the batch's own rows of what the results call failed, by key."""

    execution: Execution
    job: JobRecord
    manifest: Manifest
    results: Results
    known: Mapping[str, InstanceRecord] = field(default_factory=dict)


def _record(
    execution: Execution,
    job: JobRecord,
    manifest: Manifest,
    results: Results,
    context: ImportContext,
) -> JobRecord:
    end, rows = _record_parts(_End(execution, job, manifest, results), context)
    counts = end.results.counts
    completed = replace(
        job,
        job_status=JobStatus.COMPLETED,
        counts=counts,
        image_set_ids=results.image_set_ids,
        ended_at=context.now,
        message=failures(counts),
    )
    keep_outcomes(completed, manifest, rows, context)
    told = job.counts if job.job_status is JobStatus.FAILED else None
    told = supersede(manifest.batch_id, job.job_id, context) or told
    if not context.stores.jobs.correct(completed):
        return completed  # another was quicker, and has told
    if told is None:
        report_end(completed, context.settings, context.now)
    elif told != counts:
        report_correction(completed, told, context.settings, context.now)
    return completed


def _record_parts(end: _End, context: ImportContext) -> tuple[_End, list[InstanceRecord]]:
    """The instances, then the batch; returns what was recorded, and the rows of all but duplicates.

    Once more if another has ended the batch meanwhile: a failure, which has put the objects aside,
    or another job of the batch's.
    """
    batches, batch_id = context.stores.batches, end.manifest.batch_id
    batch = batches.get(batch_id)
    if batch is None or batch.state is BatchState.CLOSED:  # the record was deleted
        closed = closed_batch(end.manifest, end.execution.manifest_key, batch)
        batch = admit_again(replace(closed, job_id=end.job.job_id), context)
    merged = _beside_own_rows(end, context)
    rows = _record_instances(merged, context, is_late=batch.state in ENDED)
    if not _record_batch(merged, batch, context):
        batch = batches.get(batch_id) or batch
        merged = _beside_own_rows(end, context)
        rows = _record_instances(merged, context, is_late=True)
        _record_batch(merged, batch, context)
    before = [row for row in merged.known.values() if ledger.was_imported(row)]
    return merged, [*before, *rows]


def _beside_own_rows(end: _End, context: ImportContext) -> _End:
    """The end, where what another job of the batch's has imported has not failed."""
    known = _known_failures(end.manifest, end.results, context)
    imported = {key: _as_outcome(row) for key, row in known.items() if ledger.was_imported(row)}
    results = replace(end.results, outcomes={**end.results.outcomes, **imported})
    return replace(end, results=results, known=known)


def _known_failures(
    manifest: Manifest, results: Results, context: ImportContext
) -> dict[str, InstanceRecord]:
    """What the batch's rows say already of those that failed, by the keys in the manifest.

    StartImportJob knows why HealthImaging never heard of some; and another job of the batch's may
    have imported one.
    """
    failed = [each for each in manifest.instances if results.outcomes[each.key].reason is not None]
    keys = {each.instance: each.key for each in failed}
    wanted = [each.row_key for each in failed]
    rows = ledger.own_rows(context.stores.instances, manifest.batch_id, wanted)
    return {keys[instance]: row for instance, row in rows.items()}


def _as_outcome(row: InstanceRecord) -> Outcome:
    return Outcome(
        image_set_id=row.image_set_id,
        image_set_version=row.image_set_version,
        is_primary=row.is_primary,
        warnings=row.warnings,
    )


def admit_again(batch: BatchRecord, context: ImportContext) -> BatchRecord:
    """Record the batch of a running execution, whose record somebody has deleted.

    ``batch`` already says which job it has, or that a start was asked for: the first write has it,
    so a crash after that write loses nothing. If its job's record is there, that tells the data
    store. Returns the batch as it is recorded then.
    """
    batches = context.stores.batches
    job = context.stores.jobs.get(batch.job_id) if batch.job_id else None
    datastore_id = job.datastore_id if job else target(batch, context.settings)
    batches.move(batch, BatchEvent.CLOSED)
    admitted = replace(batch, admitted_at=context.now, datastore_id=datastore_id)
    batches.move(admitted, BatchEvent.ADMITTED)
    return batches.get(batch.batch_id) or batch


def supersede(batch_id: str, job_id: str, context: ImportContext) -> Counts | None:
    """Correct the record of an import that was thought never to have got a job.

    Returns the counts that it had, if there was one to correct.
    """
    known = context.stores.jobs.get(batch_id) if job_id != batch_id else None
    if known is None or not known.counts.instances:
        return None
    message = f"HealthImaging had started the import after all: see job {job_id}"
    corrected = replace(known, counts=Counts(0), message=message)
    return known.counts if context.stores.jobs.correct(corrected) else None


def manifest_of(execution: Execution, context: ImportContext) -> Manifest:
    """The batch's manifest; or what its objects tell, should that be gone by now.

    Raises ObjectDenied: the manifest may be whole, or is gone and an object may not be read. Raises
    InvalidManifest, InvalidKey or ObjectUnavailable if there are no objects either.
    """
    try:
        return read_manifest(context.stores.objects, execution.bucket, execution.manifest_key)
    except (InvalidKey, InvalidManifest, ObjectUnavailable):
        found = told_by_objects(execution.batch_id, context)
        if found.denied:  # an instance that is in no manifest would get no result
            raise ObjectDenied(
                f"the manifest and {len(found.denied)} objects cannot be read"
            ) from None
        if found.manifest is None:
            raise
        return found.manifest


def _record_instances(end: _End, context: ImportContext, *, is_late: bool) -> list[InstanceRecord]:
    outcomes = end.results.outcomes
    failed = {key for key, each in outcomes.items() if each.reason is not None}
    if is_late:
        bring_back(context.files, end.manifest.batch_id, outcomes.keys() - failed)
    stay = move_all(context.files, sorted(failed), failed_key, _FAILED)
    rows = _rows(end, context.now)
    image_sets = {row.image_set_id: row.study_instance_uid for row in rows if row.image_set_id}
    in_threads(lambda each: context.stores.image_sets.note(*each), sorted(image_sets.items()))
    placed = [_placed(row, stay) for row in rows]
    kept = context.record(end.manifest.batch_id, placed)
    settle_deletions(rows, context)
    return kept


def _placed(row: InstanceRecord, stay: Set[str]) -> InstanceRecord:
    if row.state is not InstanceState.FAILED or row.key in stay:
        return row
    return replace(row, key=failed_key(row.key))


def _record_batch(end: _End, known: BatchRecord, context: ImportContext) -> bool:
    """False if another has ended the batch since it was ``known``."""
    counts = end.results.counts
    ended = replace(
        closed_batch(end.manifest, end.execution.manifest_key, known),
        counts=counts,
        job_id=end.job.job_id,
        ended_at=context.now,
        message=failures(counts),
    )
    if known.state not in ENDED:
        return context.stores.batches.move(ended, ending(counts))
    is_jobs = known.job_id in (end.job.job_id, None)
    if counts.imported and (known.counts != counts or not is_jobs):
        found = BatchEvent.FOUND_PARTLY_IMPORTED if counts.failed else BatchEvent.FOUND_IMPORTED
        message = failures(counts) or _CORRECTED
        corrected = replace(ended, corrected_at=context.now, message=message)
        context.stores.batches.move(corrected, found)
    return True


def _rows(end: _End, now: datetime) -> list[InstanceRecord]:
    """All but the duplicates', whose rows are those of the batches that imported them.

    What is known to be imported keeps its row, and what failed before keeps its reason.
    """
    outcomes = end.results.outcomes
    return [
        _row(end, each, outcomes[each.key], now)
        for each in end.manifest.instances
        if not outcomes[each.key].duplicate and not ledger.was_imported(end.known.get(each.key))
    ]


def _row(end: _End, instance: ManifestInstance, outcome: Outcome, now: datetime) -> InstanceRecord:
    batch_id, store, job_id = end.manifest.batch_id, end.job.datastore_id, end.job.job_id
    if outcome.reason is not None:
        reason, known = outcome.reason, end.known.get(instance.key)
        if reason == NOT_REPORTED and known is not None:
            reason = known.reason or reason
        return instance_row(
            batch_id, store, instance, InstanceState.FAILED, now, job_id=job_id, reason=reason
        )
    return replace(
        instance_row(batch_id, store, instance, InstanceState.IMPORTED, now, job_id=job_id),
        image_set_id=outcome.image_set_id,
        image_set_version=outcome.image_set_version,
        is_primary=outcome.is_primary,
        warnings=outcome.warnings,
    )
