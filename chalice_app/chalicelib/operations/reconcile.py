"""Whether every object under ``instances/`` is accounted for; what is not is listed and counted.

A walk over the whole prefix may be longer than one invocation: each goes on where the last stopped,
and begins anew at the end. So an object that stays unaccounted for is told of again in each walk.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import Any

import structlog

from chalicelib.errors import (
    ObjectDenied,
    ObjectMissing,
    ObjectUnavailable,
    ServiceUnavailable,
)
from chalicelib.imports.aside import invalid_manifest_key
from chalicelib.intake.trigger import close_batch
from chalicelib.logs import describe
from chalicelib.metrics import embedded
from chalicelib.stores import Stores
from chalicelib.stores.copies import COPIED_FROM
from chalicelib.stores.files import Files, StoredObject, has_manifest
from chalicelib.stores.objects import read_manifest
from contract.batch_states import ENDED, UNDER_WAY
from contract.errors import InvalidKey, InvalidManifest
from contract.keys import INSTANCES_PREFIX, InstanceKey, manifest_key
from contract.records import BatchRecord, BatchState, InstanceRecord, InstanceState
from contract.times import to_iso

CURSOR_KEY = "reports/reconciliation/cursor.json"
# How many keys one report lists; its counts are of all.
MAX_LISTED = 10_000
_PAGE = 1_000
_MAX_CURSOR_BYTES = 4_096
# More batches on end without an answer from AWS are an outage.
_MOST_UNANSWERED = 10
_WAITING = (BatchState.CLOSED, *UNDER_WAY)
_log = structlog.get_logger()
Json = dict[str, Any]


class Verdict(StrEnum):
    """What an object under ``instances/`` is."""

    ACCOUNTED = "accounted"
    LEFTOVER = "leftover"  # a copy whose batch was never written: its original is safe, it is not
    STRANGE_KEY = "not-an-instance-key"
    NO_BATCH = "no-batch"
    # only other batches have rows of it: accounted for if its manifest lists it
    SUPERSEDED = "superseded"
    NOT_LISTED = "not-in-the-manifest"
    STILL_OPEN = "batch-still-open"
    NO_ROW = "not-in-the-ledger"
    NO_END = "without-an-end"
    # S3 or DynamoDB does not say what it is: denied, archived, damaged, or away
    UNKNOWN = "cannot-be-examined"


@dataclass(slots=True)
class Report:
    """One invocation's findings. ``resume_after`` is None once the walk has reached the end."""

    began_at: datetime
    after: str
    older_than: datetime
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    listed: list[tuple[str, Verdict]] = field(default_factory=list)
    resume_after: str | None = None

    @property
    def unaccounted(self) -> int:
        """How many objects nobody answers for."""
        known = (Verdict.ACCOUNTED, Verdict.LEFTOVER)
        return sum(count for verdict, count in self.verdicts.items() if verdict not in known)

    def to_json(self) -> Json:
        """The report's object."""
        return {
            "beganAt": to_iso(self.began_at),
            "olderThan": to_iso(self.older_than),
            "after": self.after,
            "complete": self.resume_after is None,
            "examinedCount": self.verdicts.total(),
            "unaccountedCount": self.unaccounted,
            "removedLeftoverCount": self.verdicts[Verdict.LEFTOVER],
            "counts": {str(verdict): count for verdict, count in sorted(self.verdicts.items())},
            "unaccounted": [{"key": key, "why": str(verdict)} for key, verdict in self.listed],
        }


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What reconciling works with. ``results`` is the bucket for reports, ``older_than`` an age."""

    stores: Stores
    default_datastore: str
    files: Files
    results: Files
    older_than: timedelta
    work_for: timedelta
    now: Callable[[], datetime]


def judge(key: InstanceKey, batch: BatchRecord | None, rows: Sequence[InstanceRecord]) -> Verdict:
    """What an old object is, from its batch's record and its instance's rows in the ledger.

    NO_BATCH and SUPERSEDED are worth a second look.
    """
    if batch is None:
        return Verdict.NO_BATCH
    if batch.state in _WAITING:
        return Verdict.ACCOUNTED
    if batch.state not in ENDED:
        return Verdict.STILL_OPEN
    if not rows:
        return Verdict.NO_ROW
    states = {row.state for row in rows if row.batch_id == key.batch_id}
    if not states:
        return Verdict.SUPERSEDED
    return Verdict.NO_END if InstanceState.RECEIVED in states else Verdict.ACCOUNTED


def reconcile(work: Reconciliation) -> Report:
    """Walk on for as long as is allowed; writes the report, and returns it.

    In an outage it ends as well: the report says how far it came, and the next walk goes on there.
    Raises ServiceUnavailable then.
    """
    began_at, after = work.now(), _cursor(work.results)
    report = Report(began_at, after, began_at - work.older_than)
    try:
        _walk(report, work)
    finally:
        _write(report, work.results)
    return report


def _walk(report: Report, work: Reconciliation) -> None:
    """Page after page; ``resume_after`` is behind the last whole one, or None at the end."""
    report.resume_after = report.after
    objects = work.files.list(INSTANCES_PREFIX, report.after)
    while page := list(islice(objects, _PAGE)):
        old = [each for each in page if each.modified_at <= report.older_than]
        _examine(old, work, report)
        report.resume_after = page[-1].key
        if work.now() - report.began_at > work.work_for:
            return
    report.resume_after = None


def metrics(report: Report, namespace: str) -> Json:
    """The line that becomes the metric of the alarm."""
    values = {
        "ExaminedObjects": report.verdicts.total(),
        "UnaccountedObjects": report.unaccounted,
        "RemovedLeftovers": report.verdicts[Verdict.LEFTOVER],
    }
    return embedded(namespace, report.began_at, values)


def _examine(page: list[StoredObject], work: Reconciliation, report: Report) -> None:
    keys = {each.key: _instance_key(each.key) for each in page}
    known = [key for key in keys.values() if key is not None]
    rows = work.stores.instances.of_instances(key.instance for key in known)
    look = _Look(work, report.older_than)
    for text, key in keys.items():
        verdict = Verdict.STRANGE_KEY
        if key is not None:
            verdict = look.at(key, rows.get(key.instance, ()))
        report.verdicts[verdict] += 1
        known_or_gone = verdict in (Verdict.ACCOUNTED, Verdict.LEFTOVER)
        if not known_or_gone and len(report.listed) < MAX_LISTED:
            report.listed.append((text, verdict))


@dataclass(frozen=True, slots=True)
class _Look:
    """A page's objects, and what is read of their batches, each once.

    ``manifests`` are the keys that those read so far list; ``unanswered`` the batches about which
    AWS gave no answer since it last gave one.
    """

    work: Reconciliation
    older_than: datetime
    batches: dict[str, BatchRecord | Exception | None] = field(default_factory=dict)
    manifests: dict[str, frozenset[str]] = field(default_factory=dict)
    unanswered: set[str] = field(default_factory=set)

    def at(self, key: InstanceKey, rows: Sequence[InstanceRecord]) -> Verdict:
        """What an object is; UNKNOWN where that cannot be told now: the others are examined.

        Raises ServiceUnavailable in an outage, which would last longer than the invocation.
        """
        try:
            verdict = self._again(key, judge(key, self._batch(key.batch_id), rows))
        except Exception as error:  # noqa: BLE001 - the report names the object
            _log.warning("object_not_examined", batch_id=key.batch_id, **describe(error))
            self._refuse_in_outage(key.batch_id, error)
            return Verdict.UNKNOWN
        self.unanswered.clear()
        return verdict

    def _refuse_in_outage(self, batch_id: str, error: Exception) -> None:
        if isinstance(error, ServiceUnavailable):
            self.unanswered.add(batch_id)
            if len(self.unanswered) > _MOST_UNANSWERED:
                raise error

    def _batch(self, batch_id: str) -> BatchRecord | None:
        """Read once: where that fails, each of the batch's objects meets the same error."""
        if batch_id not in self.batches:
            try:
                self.batches[batch_id] = _batch(batch_id, self.work)
            except Exception as error:  # noqa: BLE001 - raised below
                self.batches[batch_id] = error
        found = self.batches[batch_id]
        if isinstance(found, Exception):
            raise found
        return found

    def _again(self, key: InstanceKey, verdict: Verdict) -> Verdict:
        """The second look at an object, where its batch's record and its rows do not decide."""
        if verdict is Verdict.NO_BATCH:
            return self._of_no_batch(key)
        if verdict is Verdict.SUPERSEDED:
            return Verdict.ACCOUNTED if self._is_listed(key) else Verdict.NOT_LISTED
        return verdict

    def _of_no_batch(self, key: InstanceKey) -> Verdict:
        """Deletes a leftover. A retry or release does not go on with copies as old as these.

        The copies of a batch whose manifest was put aside as invalid may be the only ones.
        """
        files, batch_id = self.work.files, key.batch_id
        try:
            found = files.head(str(key))
        except ObjectMissing:
            return Verdict.LEFTOVER  # it is gone: nothing to answer for
        is_new = found.modified_at > self.older_than
        if is_new or self.work.stores.batches.get(batch_id) or has_manifest(batch_id, files):
            return Verdict.ACCOUNTED
        invalid = invalid_manifest_key(manifest_key(batch_id))
        if COPIED_FROM not in found.metadata or any(files.list(invalid)):
            return Verdict.NO_BATCH
        files.delete(str(key), found.etag)
        return Verdict.LEFTOVER

    def _is_listed(self, key: InstanceKey) -> bool:
        if key.batch_id not in self.manifests:
            self.manifests[key.batch_id] = _listed(key.batch_id, self.work)
        return str(key) in self.manifests[key.batch_id]


def _listed(batch_id: str, work: Reconciliation) -> frozenset[str]:
    """Nothing, where there is no manifest to say that the batch ever had anything."""
    try:
        manifest = read_manifest(work.stores.objects, work.files.bucket, manifest_key(batch_id))
    except (InvalidManifest, ObjectUnavailable):
        return frozenset()
    return frozenset(each.key for each in manifest.instances)


def _batch(batch_id: str, work: Reconciliation) -> BatchRecord | None:
    """The batch's record, which is made now if its manifest's event was lost."""
    batch = work.stores.batches.get(batch_id)
    if batch is None and has_manifest(batch_id, work.files):
        key = manifest_key(batch_id)
        bucket, default = work.files.bucket, work.default_datastore
        return close_batch(bucket, key, work.stores, default, work.now())
    return batch


def _instance_key(key: str) -> InstanceKey | None:
    try:
        return InstanceKey.parse(key)
    except InvalidKey:
        return None


def _cursor(results: Files) -> str:
    """Where to go on; from the beginning, where what stands there is no cursor of ours."""
    try:
        document = json.loads(results.read(CURSOR_KEY, _MAX_CURSOR_BYTES))
        return str(document["after"])
    except ObjectMissing:
        return ""  # the first walk
    except (
        ObjectDenied,
        ObjectUnavailable,
        ValueError,
        KeyError,
        TypeError,
        RecursionError,
    ) as error:
        _log.warning("cursor_not_read", **describe(error))
        return ""


def _write(report: Report, results: Files) -> None:
    """The report before the cursor: a crash between reads a stretch twice, and none never."""
    name = f"reports/reconciliation/{report.began_at:%Y%m%dT%H%M%SZ}.json"
    results.put(name, json.dumps(report.to_json()).encode())
    results.put(CURSOR_KEY, json.dumps({"after": report.resume_after or ""}).encode())
    log = _log.warning if report.unaccounted else _log.info
    log(
        "reconciled",
        examined=report.verdicts.total(),
        unaccounted=report.unaccounted,
        leftovers=report.verdicts[Verdict.LEFTOVER],
        complete=report.resume_after is None,
        report=name,
    )
