"""Two batches with the same instances, imported at the same moment, their steps interleaved."""

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest
from chalicelib.errors import ServiceUnavailable
from chalicelib.imports.context import ImportContext
from chalicelib.imports.execution import Execution
from chalicelib.imports.healthimaging import ImportView
from chalicelib.imports.start import start_import
from chalicelib.imports.status import check_status
from chalicelib.stores import Stores
from chalicelib.stores import instances as ledger
from chalicelib.stores.memory import MemoryBatches, MemoryInstances, MemoryObjects

from contract.batch_states import ENDED
from contract.checksums import Checksum
from contract.keys import RowKey, manifest_key
from contract.records import BatchState, InstanceRecord, InstanceState, JobStatus
from tests.unit.chalicelib.builders import (
    BATCH,
    BUCKET,
    EXECUTION,
    NEWER_BATCH,
    NOW,
    RESULTS,
    FakeHealthImaging,
    a_context,
    a_manifest,
    files_of,
    instance_rows,
    is_there,
    keep_batch,
    keep_results,
    lines,
    memory_stores,
    overwrite,
    rows_by_uid,
    success,
    summary,
)

BOTH = (BATCH, NEWER_BATCH)
# Behind the last call of any import.
NEVER = 10**6
# Seconds until two threads that wait for each other are found out. A loaded machine, and the
# collection of a heap that other tests have filled, have taken more than ten.
_MOST = 100


class Steps:
    """Stops its thread before one of its calls, until it is told to go on."""

    def __init__(self, stops_at: int) -> None:
        self.taken = 0
        self._stops_at = stops_at
        self.stopped = threading.Event()
        self.go_on = threading.Event()

    def __call__(self) -> None:
        if self.taken == self._stops_at:
            self.stopped.set()
            assert self.go_on.wait(_MOST)
        self.taken += 1


@dataclass(frozen=True)
class Stepping:
    """A store, each of whose calls is a step."""

    store: Any
    step: Callable[[], None]

    def __getattr__(self, name: str) -> Any:
        member = getattr(self.store, name)
        if not callable(member):
            return member

        def call(*arguments: Any) -> Any:
            self.step()
            return member(*arguments)

        return call


class Start:
    """StartImportJob of one batch in a thread of its own, which stops before one of its calls."""

    def __init__(self, batch_id: str, stores: Stores, stops_at: int) -> None:
        self.steps = Steps(stops_at)
        self.service = FakeHealthImaging()
        self.imported: set[str] = set()
        self._stores = stores
        self._prefix = f"instances/{batch_id}/"
        self.service.on_start = self._look
        stepping = Stores(
            stores.objects,
            *(cast("Any", Stepping(each, self.steps)) for each in (
                stores.jobs, stores.batches, stores.instances, stores.studies,
                stores.image_sets, stores.blocked)),
        )  # fmt: skip
        context = replace(
            a_context(stores, self.service),
            stores=stepping,
            files=cast("Any", Stepping(files_of(stores), self.steps)),
        )
        execution = replace(EXECUTION, batch_id=batch_id, manifest_key=manifest_key(batch_id))
        self.thread = threading.Thread(target=self._run, args=(execution, context))
        self.thread.start()

    def _run(self, *arguments: Any) -> None:
        try:
            self._steps(*arguments)
        finally:
            self.steps.stopped.set()

    def _steps(self, execution: Execution, context: ImportContext) -> None:
        start_import(execution, context)

    def _look(self) -> None:
        """HealthImaging imports what stands under the prefix."""
        bodies = cast("MemoryObjects", self._stores.objects).bodies
        keys = {key for _, key in bodies if key.startswith(self._prefix)}
        self.imported = {key.rpartition("/")[2].removesuffix(".dcm") for key in keys}

    def until_stopped(self) -> None:
        assert self.steps.stopped.wait(_MOST)

    def to_its_end(self) -> None:
        self.steps.go_on.set()
        self.thread.join(_MOST)
        assert not self.thread.is_alive()


def two_batches() -> Stores:
    stores = memory_stores()
    for batch_id in BOTH:
        keep_batch(stores, a_manifest(2, batch_id=batch_id))
    return stores


def received(batch_id: str) -> list[InstanceRecord]:
    return instance_rows(a_manifest(2, batch_id=batch_id), InstanceState.RECEIVED, NOW)


def interleaved(
    kind: type[Start], first: str, prepare: Callable[[], Stores]
) -> Iterator[tuple[Stores, Start, Start]]:
    """Both batches' ends, once for each pair of steps at which one and then the other paused."""
    second = NEWER_BATCH if first == BATCH else BATCH
    for pause in itertools.count():
        has_paused = False
        for other_pause in itertools.count():
            stores = prepare()
            one = kind(first, stores, pause)
            one.until_stopped()
            other = kind(second, stores, other_pause)
            other.until_stopped()
            one.to_its_end()
            other.to_its_end()
            yield stores, one, other
            has_paused = one.steps.taken > pause
            if other.steps.taken <= other_pause:
                break
        if not has_paused:
            return


@pytest.mark.parametrize("first", BOTH)
@pytest.mark.parametrize("registered", [(), (BATCH,), (NEWER_BATCH,), BOTH])
def test_however_their_steps_interleave_each_instance_is_imported_once(
    first: str, registered: tuple[str, ...]
) -> None:
    def prepare() -> Stores:
        stores = two_batches()
        for batch_id in registered:
            ledger.register(stores.instances, received(batch_id))
        return stores

    for _, one, other in interleaved(Start, first, prepare):
        assert sorted([*one.imported, *other.imported]) == ["1.2.3.1", "1.2.3.2"]


class Import(Start):
    """And CheckStatus behind it, of a job that has imported everything."""

    def _steps(self, execution: Execution, context: ImportContext) -> None:
        self.service.job_id = f"job of {execution.batch_id}"
        job_id = start_import(execution, context)["jobId"]
        output = f"s3://{RESULTS}/{execution.batch_id}/"
        self.service.view = ImportView(JobStatus.COMPLETED, output)
        check_status(execution, job_id, context)


def two_batches_with_other_bytes() -> Stores:
    """Their jobs' results are there already."""
    stores = memory_stores()
    for batch_id in BOTH:
        manifest = a_manifest(1, batch_id=batch_id)
        (one,) = manifest.instances
        one = replace(one, checksum=Checksum.of(batch_id.encode()))
        keep_batch(stores, replace(manifest, instances=(one,)))
        keep_results(
            stores,
            batch_id=batch_id,
            job_id=f"job of {batch_id}",
            summary=summary(1),
            success=lines(success(one.key)),
        )
    return stores


@pytest.mark.parametrize("first", BOTH)
def test_however_two_imports_of_other_bytes_interleave_both_are_told(first: str) -> None:
    for stores, _, _ in interleaved(Import, first, two_batches_with_other_bytes):
        rows = stores.instances.by_study("1.2")
        found = {row.batch_id: row.state for row in rows}
        assert found == dict.fromkeys(BOTH, InstanceState.IMPORTED)


def two_batches_with_one_checksum() -> Stores:
    """Of other bytes: the second has made the checksum fit."""
    stores = two_batches_with_other_bytes()
    objects = cast("MemoryObjects", stores.objects)
    for batch_id in BOTH:
        manifest = a_manifest(1, batch_id=batch_id)
        objects.bodies[BUCKET, manifest_key(batch_id)] = manifest.to_json()
    return stores


@pytest.mark.fault("forged-checksum")
@pytest.mark.parametrize("first", BOTH)
def test_however_two_imports_of_one_checksum_interleave_both_are_told(first: str) -> None:
    for stores, one, other in interleaved(Import, first, two_batches_with_one_checksum):
        assert one.imported == other.imported == {"1.2.3.1"}
        rows = list(stores.instances.by_study("1.2"))
        found = {row.batch_id: row.state for row in rows}
        assert found == dict.fromkeys(BOTH, InstanceState.IMPORTED)
        assert len({row.content for row in rows}) == 2


def begin(batch_id: str, stores: Stores) -> set[str]:
    start = Start(batch_id, stores, NEVER)
    start.to_its_end()
    return start.imported


def with_one_started() -> Stores:
    stores = two_batches()
    assert begin(NEWER_BATCH, stores) == {"1.2.3.1", "1.2.3.2"}
    return stores


def test_what_another_batch_is_importing_is_left_to_it() -> None:
    stores = with_one_started()
    assert begin(BATCH, stores) == set()
    rows = rows_by_uid(stores)
    assert rows["1.2.3.1"].batch_id == NEWER_BATCH


def test_other_bytes_are_not() -> None:
    stores = with_one_started()
    rows = rows_by_uid(stores)
    other = replace(rows["1.2.3.1"], checksum=Checksum.of(b"other bytes"))
    memory = cast("MemoryInstances", stores.instances)
    memory.rows = {each.row_key: each for each in (other, rows["1.2.3.2"])}
    assert begin(BATCH, stores) == {"1.2.3.1"}


@pytest.mark.parametrize("state", sorted(ENDED))
def test_a_batch_that_ended_without_a_word_of_its_instances_does_not_stand(
    state: BatchState,
) -> None:
    stores = with_one_started()
    batches = cast("MemoryBatches", stores.batches)
    batches.rows[NEWER_BATCH] = replace(batches.rows[NEWER_BATCH], state=state)
    assert begin(BATCH, stores) == {"1.2.3.1", "1.2.3.2"}
    rows = rows_by_uid(stores)
    assert rows["1.2.3.1"].batch_id == BATCH


def test_a_batch_whose_object_is_gone_does_not_stand() -> None:
    stores = with_one_started()
    (one, _) = a_manifest(2, batch_id=NEWER_BATCH).instances
    del cast("MemoryObjects", stores.objects).bodies[BUCKET, one.key]
    assert begin(BATCH, stores) == {"1.2.3.1"}


def test_a_batch_of_another_data_store_does_not_stand() -> None:
    stores = with_one_started()
    rows = rows_by_uid(stores).values()
    overwrite(stores.instances, [replace(row, datastore_id="f" * 32) for row in rows])
    assert begin(BATCH, stores) == {"1.2.3.1", "1.2.3.2"}


def test_what_failed_in_a_newer_batch_belongs_to_the_older_one_that_imports_it() -> None:
    stores = with_one_started()
    rows = rows_by_uid(stores).values()
    failed = [replace(row, state=InstanceState.FAILED) for row in rows]
    ledger.record(stores.instances, NEWER_BATCH, failed, is_there)
    assert begin(BATCH, stores) == {"1.2.3.1", "1.2.3.2"}
    assert {row.batch_id for row in stores.instances.by_study("1.2")} == {BATCH}


def test_a_row_that_changes_with_every_look_is_given_up_for_now() -> None:
    store = MemoryInstances()
    (row, *_) = received(BATCH)

    def decide(known: ledger.Rows, _: Set[str]) -> list[ledger.Change]:
        number = len(store.rows.get(row.row_key, row).warnings)
        overwrite(store, [replace(row, warnings=("x",) * (number + 1))])
        return [ledger.Change(known.get(row.row_key), row)]

    with pytest.raises(ServiceUnavailable):
        ledger.swap(store, [row.row_key], decide, store.get_many)


class Contested(MemoryInstances):
    """Somebody else registers one instance between the first reading and writing."""

    def __init__(self, other: InstanceRecord) -> None:
        super().__init__()
        self.others = [other]

    def swap_many(self, changes: Sequence[ledger.Change]) -> frozenset[RowKey]:
        while self.others:
            row = self.others.pop()
            self.rows[row.row_key] = row
        return super().swap_many(changes)


def test_one_contested_instance_does_not_hold_up_the_others() -> None:
    (theirs, _), ours = received(NEWER_BATCH), received(BATCH)
    store = Contested(theirs)
    ledger.register(store, ours)
    assert list(store.rows.values()) == [theirs, ours[1]]
