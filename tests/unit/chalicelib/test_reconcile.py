"""Reconciliation over the in-memory twins."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from chalicelib.errors import ServiceUnavailable
from chalicelib.operations.reconcile import (
    CURSOR_KEY,
    MAX_LISTED,
    Reconciliation,
    Report,
    Verdict,
    metrics,
    reconcile,
)
from chalicelib.stores import Stores
from chalicelib.stores.copies import COPIED_FROM
from chalicelib.stores.files import StoredObject
from chalicelib.stores.memory import MemoryBatches, MemoryObjects
from chalicelib.stores.memory_files import MemoryFiles

from contract.keys import manifest_key
from contract.records import BatchState, InstanceState
from tests.unit.chalicelib.builders import (
    BATCH,
    BUCKET,
    DATASTORE,
    NEWER_BATCH,
    NOW,
    RESULTS,
    a_batch,
    a_manifest,
    an_instance,
    files_of,
    instance_row,
    memory_stores,
    overwrite,
    remove,
    the_row,
)

TWO_DAYS_ON = NOW + timedelta(days=2)
KEY = a_manifest(1).instances[0].key


def a_reconciliation(stores: Stores, now: Any = lambda: TWO_DAYS_ON) -> Reconciliation:
    assert isinstance(stores.objects, MemoryObjects)
    results = MemoryFiles(stores.objects, RESULTS)
    day, minute = timedelta(days=1), timedelta(minutes=1)
    return Reconciliation(stores, DATASTORE, files_of(stores), results, day, minute, now)


def a_stored_batch(state: BatchState | None, row: InstanceState | None) -> Stores:
    stores = memory_stores(a_manifest(1))
    assert isinstance(stores.batches, MemoryBatches)
    stores.batches.rows = {} if state is None else {BATCH: a_batch(state)}
    if row is not None:
        overwrite(stores.instances, [instance_row(BATCH, an_instance("1.2.3.1"), row, NOW)])
    return stores


def findings(stores: Stores) -> list[tuple[str, str]]:
    report = reconcile(a_reconciliation(stores)).to_json()
    assert report["unaccountedCount"] == len(report["unaccounted"])
    return [(each["key"], each["why"]) for each in report["unaccounted"]]


@pytest.mark.parametrize(
    ("state", "row"),
    [
        (BatchState.CLOSED, InstanceState.RECEIVED),
        (BatchState.IMPORTING, None),
        (BatchState.IMPORTING, InstanceState.RECEIVED),
        (BatchState.IMPORTED, InstanceState.IMPORTED),
        (BatchState.PARTIAL, InstanceState.FAILED),
        (BatchState.FAILED, InstanceState.FAILED),
    ],
)
def test_what_waits_or_has_an_end_is_accounted_for(
    state: BatchState, row: InstanceState | None
) -> None:
    assert findings(a_stored_batch(state, row)) == []


@pytest.mark.parametrize(
    ("state", "row", "why"),
    [
        (BatchState.OPEN, None, "batch-still-open"),
        (BatchState.IMPORTED, None, "not-in-the-ledger"),
        (BatchState.IMPORTED, InstanceState.RECEIVED, "without-an-end"),
        (BatchState.PARTIAL, InstanceState.RECEIVED, "without-an-end"),
    ],
)
def test_what_has_neither_is_listed(state: BatchState, row: InstanceState | None, why: str) -> None:
    assert findings(a_stored_batch(state, row)) == [(KEY, why)]


def test_an_object_of_no_batch_is_listed() -> None:
    stores = a_stored_batch(None, None)
    remove(files_of(stores), [manifest_key(BATCH)])
    assert findings(stores) == [(KEY, "no-batch")]


def test_a_batch_whose_event_was_lost_is_closed_now() -> None:
    stores = a_stored_batch(None, None)
    assert findings(stores) == []
    batch = stores.batches.get(BATCH)
    assert batch is not None
    assert batch.state is BatchState.CLOSED
    assert the_row(stores, "1.2.3.1").state is InstanceState.RECEIVED


def test_a_name_that_is_no_instances_is_listed() -> None:
    stores = memory_stores()
    files_of(stores).put("instances/readme.txt", b"x")
    assert findings(stores) == [("instances/readme.txt", "not-an-instance-key")]


def test_an_instance_that_was_sent_again_is_its_newer_batchs_business() -> None:
    stores = a_stored_batch(BatchState.IMPORTED, InstanceState.RECEIVED)
    row = the_row(stores, "1.2.3.1")
    overwrite(stores.instances, [replace(row, batch_id=NEWER_BATCH)])
    assert findings(stores) == []


def test_a_stray_that_the_manifest_does_not_list_is_told_of() -> None:
    stores = a_stored_batch(BatchState.IMPORTED, InstanceState.IMPORTED)
    stray, newer = an_instance("1.2.3.9"), an_instance("1.2.3.9", NEWER_BATCH)
    files_of(stores).put(stray.key, b"x")
    overwrite(stores.instances, [instance_row(NEWER_BATCH, newer, InstanceState.IMPORTED, NOW)])
    assert findings(stores) == [(stray.key, "not-in-the-manifest")]
    remove(files_of(stores), [manifest_key(BATCH)])
    assert findings(stores) == [(stray.key, "not-in-the-manifest")]


def test_a_copy_that_nobody_committed_is_removed_and_one_that_is_committed_is_not() -> None:
    stores = a_stored_batch(None, None)
    assert isinstance(stores.objects, MemoryObjects)
    stores.objects.metadata[BUCKET, KEY] = {COPIED_FROM: "x"}
    reconcile(a_reconciliation(stores))
    assert (BUCKET, KEY) in stores.objects.bodies
    assert isinstance(stores.batches, MemoryBatches)
    stores.batches.rows = {}
    remove(files_of(stores), [manifest_key(BATCH)])
    report = reconcile(a_reconciliation(stores))
    assert (report.unaccounted, report.verdicts[Verdict.LEFTOVER]) == (0, 1)
    assert (BUCKET, KEY) not in stores.objects.bodies


@pytest.mark.parametrize("made", ["a record", "a manifest", "new copies"])
def test_a_copy_whose_batch_is_made_while_the_walk_is_on_stays(made: str) -> None:
    stores = memory_stores(manifest := a_manifest(2))
    first, second = (each.key for each in manifest.instances)
    assert isinstance(stores.objects, MemoryObjects)
    assert isinstance(stores.batches, MemoryBatches)
    batches, objects, copied = stores.batches, stores.objects, set[str]()
    for key in (first, second):
        objects.metadata[BUCKET, key] = {COPIED_FROM: "x"}
    batches.rows = {}
    remove(files_of(stores), [manifest_key(BATCH)])

    class Meanwhile(MemoryFiles):
        """The batch is made while the first copy is deleted."""

        def delete(self, key: str, etag: str) -> None:
            super().delete(key, etag)
            if made == "a record":
                batches.rows[BATCH] = a_batch(BatchState.OPEN)
            elif made == "a manifest":
                self.put(manifest_key(BATCH), manifest.to_json())
            else:
                copied.add(second)

        def head(self, key: str) -> StoredObject:
            found = super().head(key)
            return replace(found, modified_at=TWO_DAYS_ON) if key in copied else found

    work = replace(a_reconciliation(stores), files=Meanwhile(objects, BUCKET))
    report = reconcile(work)
    assert report.verdicts == {Verdict.LEFTOVER: 1, Verdict.ACCOUNTED: 1}
    assert (BUCKET, second) in objects.bodies


def test_what_is_younger_than_the_limit_is_not_looked_at() -> None:
    stores = a_stored_batch(BatchState.OPEN, None)
    report = reconcile(a_reconciliation(stores, lambda: NOW + timedelta(hours=23)))
    assert report.verdicts.total() == 0


def test_a_walk_goes_on_where_the_last_invocation_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chalicelib.operations.reconcile._PAGE", 2)
    stores = memory_stores()
    for number in range(5):
        files_of(stores).put(f"instances/{number}", b"x")
    seen: list[str] = []
    complete = []
    for _ in range(5):
        times = iter([TWO_DAYS_ON, *[TWO_DAYS_ON + timedelta(hours=1)] * 9])
        report = reconcile(a_reconciliation(stores, times.__next__))
        seen += [key for key, _ in report.listed]
        complete.append(report.to_json()["complete"])
    assert seen == [f"instances/{number}" for number in (0, 1, 2, 3, 4, 0, 1)]
    assert complete == [False, False, False, True, False]


def test_the_report_is_in_the_results_bucket() -> None:
    stores = a_stored_batch(BatchState.OPEN, None)
    report = reconcile(a_reconciliation(stores))
    assert isinstance(stores.objects, MemoryObjects)
    kept = stores.objects.bodies[RESULTS, "reports/reconciliation/20261125T093000Z.json"]
    assert json.loads(kept) == report.to_json()
    assert json.loads(stores.objects.bodies[RESULTS, CURSOR_KEY]) == {"after": ""}


def test_a_report_lists_a_bounded_number_and_counts_all() -> None:
    stores = memory_stores()
    for number in range(MAX_LISTED + 3):
        files_of(stores).put(f"instances/{number}", b"x")
    report = reconcile(a_reconciliation(stores)).to_json()
    assert (len(report["unaccounted"]), report["unaccountedCount"]) == (MAX_LISTED, MAX_LISTED + 3)


def test_the_metric_is_what_cloudwatch_reads() -> None:
    report = Report(TWO_DAYS_ON, "", TWO_DAYS_ON)
    report.verdicts.update({Verdict.NO_ROW: 2, Verdict.ACCOUNTED: 5, Verdict.LEFTOVER: 1})
    line = metrics(report, "Here")
    (definition,) = line["_aws"]["CloudWatchMetrics"]
    assert definition["Namespace"] == "Here"
    assert {each["Name"] for each in definition["Metrics"]} <= line.keys()
    values = line["UnaccountedObjects"], line["ExaminedObjects"], line["RemovedLeftovers"]
    assert values == (2, 8, 1)
    assert line["_aws"]["Timestamp"] == 1795599000000


@pytest.mark.parametrize("body", [b"not json", b"{}"])
def test_copies_whose_manifest_is_none_may_be_the_only_ones(body: bytes) -> None:
    """Those of a dropbox batch, say, whose drops are deleted behind the manifest."""
    stores = a_stored_batch(None, None)
    assert isinstance(stores.objects, MemoryObjects)
    stores.objects.metadata[BUCKET, KEY] = {COPIED_FROM: "x"}
    files_of(stores).put(manifest_key(BATCH), body)
    assert findings(stores) == [(KEY, "no-batch")]
    assert (BUCKET, KEY) in stores.objects.bodies


ODD_BATCHES = [f"20261123T0900{number:02}Z-0001020304050607" for number in range(30)]


def leftovers(stores: Stores, batch_ids: list[str]) -> list[str]:
    """An object of each batch, of which there is neither record nor manifest."""
    assert isinstance(stores.objects, MemoryObjects)
    keys = [an_instance("1.2.3.1", batch_id).key for batch_id in batch_ids]
    stores.objects.bodies |= {(BUCKET, key): b"x" for key in keys}
    return keys


@pytest.mark.parametrize("denied", ["its object", "its batch's manifest"])
def test_what_s3_denies_is_listed_and_its_neighbours_are_examined(denied: str) -> None:
    stores = memory_stores()
    assert isinstance(stores.objects, MemoryObjects)
    bad, good = leftovers(stores, ODD_BATCHES[:2])
    stores.objects.metadata[BUCKET, good] = {COPIED_FROM: "x"}
    key = bad if denied == "its object" else manifest_key(ODD_BATCHES[0])
    stores.objects.denied.add((BUCKET, key))
    report = reconcile(a_reconciliation(stores))
    assert report.listed == [(bad, Verdict.UNKNOWN)]
    assert report.verdicts == {Verdict.UNKNOWN: 1, Verdict.LEFTOVER: 1}


def test_a_batch_that_cannot_be_read_is_asked_about_once_for_all_its_objects() -> None:
    stores = memory_stores()
    assert isinstance(stores.objects, MemoryObjects)
    asked = []

    class Denied(MemoryFiles):
        def head(self, key: str) -> StoredObject:
            asked.append(key)
            raise KeyError("a bug")

    for number in range(5):
        stores.objects.bodies[BUCKET, an_instance(f"1.2.3.{number}", ODD_BATCHES[0]).key] = b"x"
    files = Denied(stores.objects, BUCKET)
    report = reconcile(replace(a_reconciliation(stores), files=files))
    assert report.verdicts == {Verdict.UNKNOWN: 5}
    assert asked == [manifest_key(ODD_BATCHES[0])]


@pytest.mark.parametrize("count", [3, 30])
def test_what_aws_never_answers_stops_nobody_and_an_outage_ends_the_walk(count: int) -> None:
    stores = memory_stores()
    assert isinstance(stores.objects, MemoryObjects)
    keys = leftovers(stores, ODD_BATCHES[:count])
    asked = []

    class Away(MemoryFiles):
        def head(self, key: str) -> StoredObject:
            asked.append(key)
            raise ServiceUnavailable("HeadObject failed")

    work = replace(a_reconciliation(stores), files=Away(stores.objects, BUCKET))
    if count == 3:
        assert reconcile(work).listed == [(key, Verdict.UNKNOWN) for key in keys]
    else:
        with pytest.raises(ServiceUnavailable):
            reconcile(work)
        assert len(asked) < 15


@pytest.mark.parametrize("body", [b"{", b"[]", b"{}", b"x" * 5_000])
def test_a_cursor_that_is_none_of_ours_begins_the_walk_anew(body: bytes) -> None:
    stores = a_stored_batch(None, None)
    assert isinstance(stores.objects, MemoryObjects)
    stores.objects.bodies[RESULTS, CURSOR_KEY] = body
    assert reconcile(a_reconciliation(stores)).verdicts.total() == 1


def test_a_walk_that_an_outage_ends_goes_on_behind_its_last_whole_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("chalicelib.operations.reconcile._PAGE", 15)
    stores = memory_stores()
    assert isinstance(stores.objects, MemoryObjects)
    keys = leftovers(stores, ODD_BATCHES)
    is_away = [False]

    class Away(MemoryFiles):
        def head(self, key: str) -> StoredObject:
            if is_away[0] or key in keys[15:]:
                is_away[0] = True
                raise ServiceUnavailable("HeadObject failed")
            return super().head(key)

    work = replace(a_reconciliation(stores), files=Away(stores.objects, BUCKET))
    with pytest.raises(ServiceUnavailable):
        reconcile(work)
    assert json.loads(stores.objects.bodies[RESULTS, CURSOR_KEY]) == {"after": keys[14]}
    report = reconcile(a_reconciliation(stores))
    assert (report.after, report.resume_after) == (keys[14], None)
    assert report.verdicts.total() == 15
