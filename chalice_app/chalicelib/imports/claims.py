"""Which of a batch's instances another batch imports, and making the others the batch's own.

An instance is imported by the batch whose row it is. So a batch that begins takes the rows of its
instances, except where another batch stands by the same bytes: it has imported them, or is alive
and has the object. Both cannot begin with the same instance, however their steps interleave.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from chalicelib.errors import ImportRefused, ObjectDenied, ObjectMissing, ServiceUnavailable
from chalicelib.imports.context import ImportContext
from chalicelib.imports.deletion import forget
from chalicelib.imports.healthimaging import ImportService
from chalicelib.imports.rows import instance_row
from chalicelib.stores import Stores
from chalicelib.stores.files import Files
from chalicelib.stores.instances import Change, merged, one_per_uid, same_bytes, swap
from contract.batch_states import ENDED
from contract.manifest import ManifestInstance
from contract.records import BatchRecord, InstanceRecord, InstanceState, JobRecord


@dataclass(frozen=True, slots=True)
class Claimant:
    """A batch that is about to be imported into a data store; others' may name none.

    ``skips_duplicates`` unless it imports whatever others import as well.
    """

    batch_id: str
    datastore_id: str
    default_datastore_id: str
    skips_duplicates: bool
    now: datetime


def claim(
    claimant: Claimant, instances: Iterable[ManifestInstance], context: ImportContext
) -> dict[str, InstanceRecord]:
    """Take what can be taken; returns the other batches' rows, by SOP Instance UID.

    An image set that another's instance should be in is asked for; what was in one that is gone is
    marked. Safe to repeat. Raises ServiceUnavailable, and the errors of ``imports.healthimaging``.
    """
    stores, files = context.stores, context.files
    kept = ImageSets(claimant.datastore_id, context.service)
    rows = one_per_uid(
        instance_row(claimant.batch_id, each, InstanceState.RECEIVED, claimant.now)
        for each in instances
    )
    others: dict[str, InstanceRecord] = {}

    def decide(known: Mapping[str, InstanceRecord]) -> list[Change]:
        same = {
            uid: row
            for uid, row in known.items()
            if claimant.skips_duplicates and _is_same(row, rows[uid])
        }
        standing = _standing(same.values(), claimant, stores, files, kept)
        others.update({row.sop_instance_uid: row for row in standing})
        # To be imported all the same: until it is, the row tells what HealthImaging has.
        doubled = {uid for uid, row in known.items() if _is_imported_elsewhere(row, rows[uid])}
        doubled -= same.keys()
        return [
            (was, row)
            for uid, row in _taken(known, rows, same).items()
            if uid not in others
            and uid not in doubled
            and _is_news(was := known.get(uid), row, claimant)
        ]

    swap(stores.instances, rows, decide)
    for image_set_id, study in kept.gone().items():
        stores.image_sets.note(image_set_id, study)  # of an import that did not do so yet
        forget([image_set_id], context)
    return others


@dataclass(frozen=True, slots=True)
class ImageSets:
    """Whether image sets of a data store are there; each is asked for once."""

    datastore_id: str
    service: ImportService
    _asked: dict[str, bool] = field(default_factory=dict)
    _studies: dict[str, str] = field(default_factory=dict)

    def keep(self, row: InstanceRecord) -> bool:
        """Whether the row's is there; one that the result files did not name is believed."""
        image_set_id = row.image_set_id
        if image_set_id is None:
            return True
        if image_set_id not in self._asked:
            self._asked[image_set_id] = self._ask(image_set_id)
            self._studies[image_set_id] = row.study_instance_uid
        return self._asked[image_set_id]

    def gone(self) -> dict[str, str]:
        """The studies of those that are not there, by their ids."""
        return {each: self._studies[each] for each, is_kept in self._asked.items() if not is_kept}

    def _ask(self, image_set_id: str) -> bool:
        try:
            return self.service.keeps(self.datastore_id, image_set_id)
        except ImportRefused as error:  # the function's right to ask, not the batch, is at fault
            raise ServiceUnavailable(f"an image set cannot be verified: {error}") from error


def _taken(
    known: Mapping[str, InstanceRecord],
    rows: Mapping[str, InstanceRecord],
    same: Collection[str],
) -> dict[str, InstanceRecord]:
    return {
        uid: replace(row, conflicts=known[uid].conflicts)
        if uid in same
        else merged(known.get(uid), row)
        for uid, row in rows.items()
    }


def _is_news(was: InstanceRecord | None, row: InstanceRecord, claimant: Claimant) -> bool:
    """Whether a row changes hands, or another batch's is to note the conflict."""
    return was is None or (was.batch_id != claimant.batch_id and row != was)


def _is_same(other: InstanceRecord, row: InstanceRecord) -> bool:
    return (
        other.batch_id != row.batch_id
        and other.study_instance_uid == row.study_instance_uid
        and same_bytes(other.checksum, row.checksum) is True
    )


def _is_imported_elsewhere(other: InstanceRecord, row: InstanceRecord) -> bool:
    return other.state is InstanceState.IMPORTED and _is_same(other, row)


def _standing(
    rows: Collection[InstanceRecord],
    claimant: Claimant,
    stores: Stores,
    files: Files,
    kept: ImageSets,
) -> list[InstanceRecord]:
    """Of other batches' rows, those that are, or will be, in the claimant's data store."""
    imported = [row for row in rows if row.state is InstanceState.IMPORTED]
    jobs = {row.job_id: stores.jobs.get(row.job_id) for row in imported if row.job_id}
    stored = {job_id for job_id, job in jobs.items() if job and _is_there(job, claimant)}
    waiting = [row for row in rows if row.state is InstanceState.RECEIVED]
    batches = {
        batch_id: stores.batches.get(batch_id) for batch_id in {row.batch_id for row in waiting}
    }
    alive = {
        batch_id
        for batch_id, batch in batches.items()
        if batch and batch.state not in ENDED and _is_there(batch, claimant)
    }
    # Where a job's record is gone, the image set alone decides.
    named = [row for row in imported if row.job_id in stored or not _has_job(row, jobs)]
    return [row for row in named if kept.keep(row)] + [
        row for row in waiting if row.batch_id in alive and _exists(row.key, files)
    ]


def _has_job(row: InstanceRecord, jobs: Mapping[str, JobRecord | None]) -> bool:
    return row.image_set_id is None or jobs.get(row.job_id or "") is not None


def _is_there(record: JobRecord | BatchRecord, claimant: Claimant) -> bool:
    return (record.datastore_id or claimant.default_datastore_id) == claimant.datastore_id


def _exists(key: str, files: Files) -> bool:
    try:
        files.head(key)
    except ObjectMissing:
        return False
    except ObjectDenied:
        pass  # it is there, and HealthImaging may have read it by now
    return True
