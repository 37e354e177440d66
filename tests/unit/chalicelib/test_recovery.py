"""Closing an open batch for its owner, over in-memory stores."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import pytest
from chalicelib.imports.listing import Found
from chalicelib.intake import recovery as module
from chalicelib.intake.recovery import Recovery, part_id, parts, recover_batches
from chalicelib.settings import RecoverySettings
from chalicelib.stores import Stores
from chalicelib.stores.files import StoredObject
from chalicelib.stores.memory import MemoryBatches, MemoryObjects
from chalicelib.stores.memory_files import MemoryFiles
from hypothesis import given
from hypothesis import strategies as st

from contract import job_limits
from contract.batch_states import BatchEvent
from contract.checksums import Checksum
from contract.job_limits import JobLimits
from contract.keys import InstanceKey, batch_prefix, manifest_key
from contract.manifest import CloseReason, Manifest
from contract.metadata import Sender, Target, to_metadata
from contract.records import BatchRecord, BatchState
from tests.unit.chalicelib.builders import (
    BATCH,
    BUCKET,
    DATASTORE,
    NOW,
    a_batch,
    a_manifest,
    an_instance,
    files_of,
    memory_stores,
    outbox_of,
)
from tests.unit.chalicelib.calls import Crash

SETTINGS = RecoverySettings(dicom_bucket=BUCKET, datastore_id=DATASTORE)
LATER = NOW + timedelta(seconds=121)
SENDER = Sender("CT1", "STORESCP", "10.0.0.1", "a1")


def an_open_batch(stores: Stores, expires_at: datetime = NOW) -> BatchRecord:
    batch = replace(
        a_batch(BatchState.OPEN),
        manifest_key=None,
        closed_at=None,
        owner="task",
        lease_expires_at=expires_at,
    )
    assert stores.batches.move(batch, BatchEvent.OPENED)
    return batch


def store(stores: Stores, *sops: str, target: Target | None = None) -> list[str]:
    """Instances in S3 as a receiver leaves them."""
    assert isinstance(stores.objects, MemoryObjects)
    keys = []
    for sop in sops:
        key = InstanceKey(BATCH, "1.2", "1.2.3", sop)
        metadata = to_metadata(
            key, "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1", "20261123",
            None, replace(SENDER, association_id=f"a{sop[-1]}"), target or Target("study"),
        )  # fmt: skip
        stores.objects.bodies[BUCKET, str(key)] = sop.encode()
        stores.objects.metadata[BUCKET, str(key)] = metadata
        keys.append(str(key))
    return keys


PAIRS = replace(job_limits.BATCH, files=2)


def recover(stores: Stores, now: datetime = LATER, limits: JobLimits = job_limits.BATCH) -> int:
    return recover_batches(
        Recovery(stores, outbox_of(stores), files_of(stores), SETTINGS, now, limits)
    )


def manifest_of(stores: Stores, batch_id: str = BATCH) -> Manifest:
    return Manifest.from_json(stores.objects.read(BUCKET, manifest_key(batch_id), 10**9))


def has_manifest(stores: Stores) -> bool:
    assert isinstance(stores.objects, MemoryObjects)
    return (BUCKET, manifest_key(BATCH)) in stores.objects.bodies


@pytest.fixture
def stores() -> Stores:
    return memory_stores()


def test_a_dead_receivers_batch_gets_the_manifest_it_would_have_written(stores: Stores) -> None:
    an_open_batch(stores)
    keys = store(stores, "1.2.3.1", "1.2.3.2", target=Target("study", "f" * 32, urgent=True))
    assert recover(stores) == 1
    manifest = manifest_of(stores)
    assert manifest.close_reason is CloseReason.RECOVERED
    assert [each.key for each in manifest.instances] == keys
    assert manifest.instances[0].checksum == Checksum.of(b"1.2.3.1")
    assert manifest.instances[0].study_date == "20261123"
    assert (manifest.datastore_id, manifest.urgent) == ("f" * 32, True)
    assert manifest.source.calling_ae_title == "CT1"
    assert manifest.source.association_ids == ("a1", "a2")


def test_a_batch_with_an_object_that_may_not_be_read_stays_and_the_others_are_closed(
    stores: Stores,
) -> None:
    an_open_batch(stores)
    (key,) = store(stores, "1.2.3.1")
    assert isinstance(stores.objects, MemoryObjects)
    stores.objects.denied.add((BUCKET, key))
    assert recover(stores) == 0
    assert not has_manifest(stores)
    stores.objects.denied.clear()
    assert recover(stores, LATER + timedelta(hours=1)) == 1
    assert has_manifest(stores)


@pytest.mark.parametrize("now", [NOW - timedelta(hours=1), NOW, NOW + timedelta(seconds=120)])
def test_a_batch_is_left_to_its_owner_until_lease_and_grace_are_over(
    stores: Stores, now: datetime
) -> None:
    batch = an_open_batch(stores)
    store(stores, "1.2.3.1")
    assert recover(stores, now) == 0
    assert stores.batches.get(BATCH) == batch
    assert not has_manifest(stores)


def test_the_owner_is_fenced_before_anything_is_read(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = an_open_batch(stores)
    store(stores, "1.2.3.1")
    owners: list[str | None] = []

    def look(batch_id: str, files: object) -> tuple[list[Found], list[str]]:
        known = stores.batches.get(batch_id)
        owners.append(known.owner if known else None)
        return [], []

    monkeypatch.setattr(module, "found_in", look)
    recover(stores)
    assert owners == ["recovery"]
    assert not stores.batches.take_lease(batch, "task", LATER)


def test_a_lease_renewed_meanwhile_is_respected(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = an_open_batch(stores)
    store(stores, "1.2.3.1")
    assert isinstance(stores.batches, MemoryBatches)
    stores.batches.rows[BATCH] = replace(batch, lease_expires_at=LATER)
    monkeypatch.setattr(MemoryBatches, "get_many", lambda *_: {BATCH: batch})  # a moment ago
    assert recover(stores) == 0
    assert not has_manifest(stores)


def test_a_manifest_that_is_there_wins_and_closes_the_batch(stores: Stores) -> None:
    an_open_batch(stores)
    store(stores, "1.2.3.1", "1.2.3.2", "1.2.3.9")
    assert isinstance(stores.objects, MemoryObjects)
    body = a_manifest().to_json()
    stores.objects.bodies[BUCKET, manifest_key(BATCH)] = body
    recover(stores)
    assert stores.objects.bodies[BUCKET, manifest_key(BATCH)] == body
    batch = stores.batches.get(BATCH)
    assert batch is not None
    assert (batch.state, batch.counts.instances) == (BatchState.CLOSED, 2)


def test_a_batch_with_nothing_in_it_ends(stores: Stores) -> None:
    an_open_batch(stores)
    recover(stores)
    batch = stores.batches.get(BATCH)
    assert batch is not None
    assert (batch.state, batch.ended_at) == (BatchState.QUARANTINED, LATER)
    assert batch.message


@pytest.mark.parametrize("stored", [("1.2.3.1",), ()])
def test_an_upload_is_ended_behind_the_fence_and_before_the_prefix_is_listed(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, stored: tuple[str, ...]
) -> None:
    an_open_batch(stores)
    store(stores, *stored)
    assert isinstance(stores.objects, MemoryObjects)
    uploads = stores.objects.uploads
    uploads.append((BUCKET, f"{batch_prefix(BATCH)}1.2/1.2.3/1.2.3.8.dcm"))
    seen: list[tuple[str | None, int]] = []

    def watched(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            known = stores.batches.get(BATCH)
            seen.append((known.owner if known else None, len(uploads)))
            return real(*arguments)

        return call

    for name in ("end_uploads", "list"):
        monkeypatch.setattr(MemoryFiles, name, watched(getattr(MemoryFiles, name)))
    recover(stores)
    assert seen == [("recovery", 1), ("recovery", 0)]


def test_what_is_no_instance_goes_to_quarantine_with_its_reason(stores: Stores) -> None:
    an_open_batch(stores)
    (key,) = store(stores, "1.2.3.1")
    assert isinstance(stores.objects, MemoryObjects)
    bare = key.replace("1.2.3.1.dcm", "1.2.3.2.dcm")
    stores.objects.bodies[BUCKET, bare] = b"no metadata"
    recover(stores)
    assert [each.key for each in manifest_of(stores).instances] == [key]
    target = f"quarantine/unlisted/{bare.removeprefix('instances/')}"
    assert stores.objects.bodies[BUCKET, target] == b"no metadata"
    assert stores.objects.metadata[BUCKET, target]["reason"]


def test_a_batch_above_a_jobs_limits_is_cut_each_part_under_its_own_prefix(
    stores: Stores,
) -> None:
    an_open_batch(stores)
    keys = store(stores, *(f"1.2.3.{number}" for number in range(5)))
    recover(stores, limits=PAIRS)
    assert isinstance(stores.objects, MemoryObjects)
    ids = [BATCH, part_id(BATCH, 1), part_id(BATCH, 2)]
    listed = [each.key for batch_id in ids for each in manifest_of(stores, batch_id).instances]
    assert [key.partition("/1.2/")[2] for key in listed] == [
        key.partition("/1.2/")[2] for key in keys
    ]
    stored = {key for bucket, key in stores.objects.bodies if key.startswith("instances/")}
    assert stored == set(listed)
    assert [len(manifest_of(stores, batch_id).instances) for batch_id in ids] == [2, 2, 1]
    # Should the events of their manifests be lost, this is what tells of them.
    assert {each.batch_id for each in stores.batches.lines(BatchState.OPEN)} == set(ids)
    recover(stores, LATER + timedelta(minutes=5))
    assert {each.batch_id for each in stores.batches.lines(BatchState.CLOSED)} == set(ids)


@pytest.mark.parametrize("calls", range(12))
def test_a_crash_while_a_batch_is_cut_loses_and_repeats_nothing(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    an_open_batch(stores)
    store(stores, *(f"1.2.3.{number}" for number in range(5)))
    files = type(files_of(stores))
    left = [calls]
    for name in ("copy", "create", "delete"):
        monkeypatch.setattr(files, name, dying(getattr(files, name), left))
    now = LATER
    for _ in range(2):
        try:
            recover(stores, now, PAIRS)
        except Crash:
            left[0] = 10**9
        now += timedelta(minutes=3)
    assert isinstance(stores.objects, MemoryObjects)
    manifests = [
        Manifest.from_json(body)
        for (_, key), body in stores.objects.bodies.items()
        if key.startswith("batches/")
    ]
    uids = [each.sop_instance_uid for one in manifests for each in one.instances]
    assert sorted(uids) == [f"1.2.3.{number}" for number in range(5)]
    stored = {key for _, key in stores.objects.bodies if key.startswith("instances/")}
    assert stored == {each.key for one in manifests for each in one.instances}


@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize("creates", range(4))
def test_parts_behind_a_crash_and_a_recovery_beside_another_list_each_instance_once(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, creates: int, at: int
) -> None:
    """A part that has a record and no manifest would be recovered by itself, half as it is."""
    an_open_batch(stores)
    # Of such sizes that the rest is cut otherwise once a part is gone.
    sizes = {"1.2.3.0": 2, "1.2.3.1": 9, "1.2.3.2": 2, "1.2.3.3": 8, "1.2.3.4": 1}
    limits = replace(job_limits.BATCH, size_bytes=10)
    assert isinstance(stores.objects, MemoryObjects)
    for key, (sop, size) in zip(store(stores, *sizes), sizes.items(), strict=True):
        stores.objects.bodies[BUCKET, key] = sop[-1].encode() * size
    with monkeypatch.context() as patch:
        patch.setattr(MemoryFiles, "create", dying(MemoryFiles.create, [creates]))
        with suppress(Crash):
            recover(stores, LATER, limits)
    later, copy = LATER + timedelta(minutes=4), MemoryFiles.copy

    def copy_beside_another(*arguments: Any) -> object:
        if next(copies) == at:
            recover(stores, later + timedelta(minutes=1), limits)
        return copy(*arguments)

    copies = count()
    monkeypatch.setattr(MemoryFiles, "copy", copy_beside_another)
    for minutes in (0, 4, 8):
        recover(stores, later + timedelta(minutes=minutes), limits)
    keys = [key for _, key in stores.objects.bodies if key.startswith("batches/")]
    manifests = [Manifest.from_json(stores.objects.bodies[BUCKET, key]) for key in keys]
    listed = [each.sop_instance_uid for one in manifests for each in one.instances]
    assert sorted(listed) == [*sizes]
    assert len([*stores.batches.lines(BatchState.CLOSED)]) == len(manifests)


def dying(real: object, left: list[int]) -> object:
    """Raises once ``left`` is used up."""

    def call(*arguments: object) -> object:
        if left[0] == 0:
            raise Crash
        left[0] -= 1
        return real(*arguments)  # type: ignore[operator]

    return call


def found(sizes: Sequence[int]) -> list[Found]:
    rows = []
    for number, size in enumerate(sizes):
        instance = replace(an_instance(f"1.2.3.{number}"), size=size)
        source = StoredObject(instance.key, size, "etag", NOW)
        rows.append(Found(instance, SENDER, Target("study"), source))
    return rows


GIB = 1024**3


@given(st.lists(st.sampled_from([1, 10_000, 3 * GIB, 9 * GIB]), max_size=40))
def test_parts_hold_everything_once_and_only_a_lone_object_is_above_the_limit(
    sizes: list[int],
) -> None:
    cut = list(parts(found(sizes), job_limits.BATCH))
    assert sorted(each.instance.size for part in cut for each in part) == sorted(sizes)
    for part in cut:
        assert len(part) == 1 or sum(each.instance.size for each in part) <= 8 * GIB


def test_parts_keep_to_the_number_of_files_and_the_metadata_a_job_may_have() -> None:
    assert [len(part) for part in parts(found([1000] * 4600), job_limits.BATCH)] == [4500, 100]
    headers = [len(part) for part in parts(found([1_000_000] * 4000), job_limits.BATCH)]
    assert max(headers) == 45_000_000 // 13_000
