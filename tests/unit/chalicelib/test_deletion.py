"""Image sets that somebody deletes in HealthImaging, and what was in them sent again."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from chalicelib.errors import ImportRefused, ImportThrottled, ServiceUnavailable
from chalicelib.imports.deletion import REASON, image_set_noticed
from chalicelib.imports.failure import record_failure
from chalicelib.imports.healthimaging import ImportView
from chalicelib.imports.start import start_import
from chalicelib.imports.status import check_status
from chalicelib.stores import Stores
from chalicelib.stores.image_sets import MemoryImageSets
from chalicelib.stores.memory import MemoryBatches, MemoryInstances, MemoryJobs
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from contract.errors import ProductError
from contract.keys import manifest_key
from contract.records import BatchState, InstanceState, JobStatus
from tests.unit.chalicelib.builders import (
    BATCH,
    DATASTORE,
    EVENT,
    EXECUTION,
    NEWER_BATCH,
    NOW,
    RESULTS,
    FakeHealthImaging,
    a_context,
    a_manifest,
    files_of,
    keep_batch,
    keep_results,
    lines,
    memory_stores,
    success,
    summary,
    the_row,
)

IMAGE_SET, OTHER = "a" * 32, "b" * 32
DETAIL = {"datastoreId": DATASTORE, "imagesetId": IMAGE_SET, "imageSetState": "DELETED"}
KEYS = [each.key for each in a_manifest(2).instances]
IMPORTED, DELETED = InstanceState.IMPORTED, InstanceState.DELETED


def start(stores: Stores, service: FakeHealthImaging, batch_id: str = BATCH) -> None:
    execution = replace(EXECUTION, batch_id=batch_id, manifest_key=manifest_key(batch_id))
    start_import(execution, a_context(stores, service))


def complete(stores: Stores, service: FakeHealthImaging, *image_sets: str) -> None:
    """The first batch's job: each instance went into the image set named for it."""
    service.view = ImportView(JobStatus.COMPLETED, f"s3://{RESULTS}/{BATCH}/")
    body = lines(*map(success, KEYS, image_sets))
    keep_results(stores, summary=summary(2), success=body)
    check_status(EXECUTION, "job1", a_context(stores, service))


@pytest.fixture
def stores(service: FakeHealthImaging) -> Stores:
    """Two instances, imported into an image set each."""
    stores = memory_stores(a_manifest(2))
    start(stores, service)
    complete(stores, service, IMAGE_SET, OTHER)
    return stores


def states(stores: Stores) -> list[InstanceState]:
    return [row.state for row in stores.instances.by_study("1.2")]


def notice(stores: Stores, service: FakeHealthImaging, detail: Any = DETAIL) -> None:
    image_set_noticed(detail, a_context(stores, service, NOW + timedelta(hours=1)))


def send_again(stores: Stores, service: FakeHealthImaging) -> set[str]:
    """The same bytes in a newer batch; what of it HealthImaging is given to import."""
    manifest = a_manifest(2, batch_id=NEWER_BATCH)
    keep_batch(stores, manifest)
    service.job_id = "job2"
    start(stores, service, NEWER_BATCH)
    prefix = f"instances/{NEWER_BATCH}/1.2/1.2.3/"
    return {each.key.removeprefix(prefix) for each in files_of(stores).list(prefix)}


def test_what_was_in_a_deleted_image_set_is_called_deleted(
    stores: Stores, service: FakeHealthImaging
) -> None:
    service.gone = {IMAGE_SET}
    with capture_logs() as told:
        notice(stores, service)
    assert states(stores) == [DELETED, IMPORTED]
    row = the_row(stores, "1.2.3.1")
    assert (row.reason, row.image_set_id) == (REASON, IMAGE_SET)
    assert [each["DeletedInstances"] for each in told] == [1]


def test_an_event_that_comes_twice_changes_nothing_more(
    stores: Stores, service: FakeHealthImaging
) -> None:
    service.gone = {IMAGE_SET}
    notice(stores, service)
    before = list(stores.instances.by_study("1.2"))
    notice(stores, service)
    assert list(stores.instances.by_study("1.2")) == before


@pytest.mark.parametrize("spelling", ["imagesetId", "imageSetId"])
def test_the_image_set_is_named_in_either_spelling(
    stores: Stores, service: FakeHealthImaging, spelling: str
) -> None:
    service.gone = {OTHER}
    notice(stores, service, {"datastoreId": DATASTORE, spelling: OTHER})
    assert states(stores) == [IMPORTED, DELETED]


def test_an_image_set_that_is_there_is_not_called_deleted(
    stores: Stores, service: FakeHealthImaging
) -> None:
    notice(stores, service)
    assert states(stores) == [IMPORTED] * 2


@pytest.mark.parametrize("fault", [ImportThrottled("later"), ServiceUnavailable("later")])
def test_an_event_that_cannot_be_verified_yet_comes_back(
    stores: Stores, service: FakeHealthImaging, fault: ProductError
) -> None:
    service.gone, service.faults = {IMAGE_SET}, [fault]
    with pytest.raises(type(fault)):
        notice(stores, service)
    assert states(stores) == [IMPORTED] * 2
    notice(stores, service)
    assert states(stores) == [DELETED, IMPORTED]


def test_an_event_is_believed_where_asking_is_denied(
    stores: Stores, service: FakeHealthImaging
) -> None:
    service.faults = [ImportRefused("AccessDeniedException: no")]
    notice(stores, service)
    assert states(stores) == [DELETED, IMPORTED]


def test_a_deletion_that_comes_before_the_results_are_recorded_counts(
    service: FakeHealthImaging,
) -> None:
    stores = memory_stores(a_manifest(2))
    start(stores, service)
    service.gone = {IMAGE_SET}
    notice(stores, service)
    complete(stores, service, IMAGE_SET, OTHER)
    assert states(stores) == [DELETED, IMPORTED]


@pytest.mark.parametrize("moment", ["noted", "written", "asked for"])
def test_a_deletion_that_comes_while_the_rows_are_written_counts(
    service: FakeHealthImaging, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Right before each of the three calls that the order of the two rests on."""
    stores = memory_stores(a_manifest(2))
    start(stores, service)
    service.gone = {IMAGE_SET}
    kind, name = {
        "noted": (MemoryImageSets, "note"),
        "written": (MemoryInstances, "swap_many"),
        "asked for": (MemoryImageSets, "deleted"),
    }[moment]
    real, calls = getattr(kind, name), list[int]()

    def call(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            notice(stores, service)
        return real(*arguments)

    monkeypatch.setattr(kind, name, call)
    complete(stores, service, IMAGE_SET, OTHER)
    assert states(stores) == [DELETED, IMPORTED]


def test_an_image_set_of_an_older_ledger_is_marked_when_it_is_found_to_be_gone(
    stores: Stores, service: FakeHealthImaging
) -> None:
    """Its import noted nothing: it was recorded before deletions were followed."""
    assert isinstance(stores.image_sets, MemoryImageSets)
    stores.image_sets.rows.clear()
    service.gone = {IMAGE_SET, OTHER}
    keep_batch(stores, a_manifest(1, batch_id=NEWER_BATCH))
    start(stores, service, NEWER_BATCH)
    assert stores.image_sets.rows[IMAGE_SET][0] == "1.2"


def test_a_duplicate_whose_jobs_record_is_gone_is_told_by_its_image_set(
    stores: Stores, service: FakeHealthImaging
) -> None:
    assert isinstance(stores.jobs, MemoryJobs)
    stores.jobs.rows.clear()
    service.gone = {OTHER}
    assert send_again(stores, service) == {"1.2.3.2.dcm"}


def test_a_batch_is_not_failed_for_the_missing_right_to_ask(
    stores: Stores, service: FakeHealthImaging
) -> None:
    service.faults = [ImportRefused("AccessDeniedException: GetImageSet")]
    with pytest.raises(ServiceUnavailable, match="verified"):
        send_again(stores, service)


def test_a_forced_batch_that_fails_is_told_beside_what_is_there(
    stores: Stores, service: FakeHealthImaging
) -> None:
    before = list(stores.instances.by_study("1.2"))
    keep_batch(stores, a_manifest(2, batch_id=NEWER_BATCH))
    assert isinstance(stores.batches, MemoryBatches)
    stores.batches.rows[NEWER_BATCH] = replace(stores.batches.rows[NEWER_BATCH], forced=True)
    service.refused = ImportRefused("ValidationException: no")
    with pytest.raises(ImportRefused):
        start(stores, service, NEWER_BATCH)
    event = EVENT | {"batchId": NEWER_BATCH, "manifestKey": manifest_key(NEWER_BATCH)}
    record_failure(event, a_context(stores, service))
    rows = list(stores.instances.by_study("1.2"))
    assert [row for row in rows if row.batch_id == BATCH] == before
    copies = [row for row in rows if row.batch_id == NEWER_BATCH]
    assert [(row.state, row.beside) for row in copies] == 2 * [(InstanceState.FAILED, NEWER_BATCH)]


@pytest.mark.fault("image-set-deleted")
def test_what_was_deleted_and_is_sent_again_is_imported_again(
    stores: Stores, service: FakeHealthImaging
) -> None:
    service.gone = {IMAGE_SET}
    notice(stores, service)
    assert send_again(stores, service) == {"1.2.3.1.dcm"}
    assert states(stores) == [InstanceState.RECEIVED, IMPORTED]


def test_what_was_deleted_unseen_is_found_out_before_a_copy_is_called_its_duplicate(
    stores: Stores, service: FakeHealthImaging
) -> None:
    """The event was lost: HealthImaging's events are best effort."""
    service.gone = {IMAGE_SET, OTHER}
    assert send_again(stores, service) == {"1.2.3.1.dcm", "1.2.3.2.dcm"}


def test_the_others_of_an_image_set_that_is_gone_are_called_deleted(
    service: FakeHealthImaging,
) -> None:
    stores = memory_stores(a_manifest(2))
    start(stores, service)
    complete(stores, service, IMAGE_SET, IMAGE_SET)
    service.gone = {IMAGE_SET}
    keep_batch(stores, a_manifest(1, batch_id=NEWER_BATCH))
    start(stores, service, NEWER_BATCH)
    assert states(stores) == [InstanceState.RECEIVED, DELETED]


def test_nothing_is_called_a_duplicate_that_cannot_be_verified(
    stores: Stores, service: FakeHealthImaging
) -> None:
    service.faults = [ImportThrottled("later")]
    with pytest.raises(ImportThrottled):
        send_again(stores, service)
    assert states(stores) == [IMPORTED] * 2
    assert {each.key for each in files_of(stores).list("duplicates/")} == set()


def test_each_image_set_is_asked_for_once(stores: Stores, service: FakeHealthImaging) -> None:
    service.gone = set()
    asked: list[str] = []
    service.keeps = lambda _, image_set: not asked.append(image_set)  # type: ignore[assignment,func-returns-value]
    assert send_again(stores, service) == set()
    assert sorted(asked) == [IMAGE_SET, OTHER]


def test_a_forced_batch_is_imported_whatever_is_there(
    stores: Stores, service: FakeHealthImaging
) -> None:
    manifest = a_manifest(2, batch_id=NEWER_BATCH)
    keep_batch(stores, manifest)
    assert isinstance(stores.batches, MemoryBatches)
    stores.batches.rows[NEWER_BATCH] = replace(stores.batches.rows[NEWER_BATCH], forced=True)
    start(stores, service, NEWER_BATCH)
    prefix = f"instances/{NEWER_BATCH}/"
    assert len(list(files_of(stores).list(prefix))) == 2
    batch = stores.batches.get(NEWER_BATCH)
    assert batch is not None
    assert batch.state is BatchState.IMPORTING


values = st.none() | st.integers() | st.text() | st.just(IMAGE_SET) | st.lists(st.text())


@given(st.dictionaries(st.sampled_from(["imagesetId", "imageSetId", "datastoreId"]), values))
def test_any_detail_is_read_without_an_error(detail: dict[str, object]) -> None:
    notice(memory_stores(), FakeHealthImaging(), detail)
