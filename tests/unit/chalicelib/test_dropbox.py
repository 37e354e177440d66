"""The dropbox over the in-memory twins."""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
from chalicelib.errors import ServiceUnavailable
from chalicelib.intake.dropbox import BEGINNING_BYTES, Dropbox, collect, import_dropped
from chalicelib.intake.drops import Dropped, Unfit, group_id, judge, plan
from chalicelib.intake.trigger import close_batch
from chalicelib.stores import Stores
from chalicelib.stores.files import Files, StoredObject
from chalicelib.stores.lock import Lock, MemoryLock
from chalicelib.stores.memory import MemoryObjects
from chalicelib.stores.outbox import Due
from hypothesis import given
from hypothesis import strategies as st

from contract import job_limits
from contract.checksums import Checksum
from contract.manifest import CloseReason, Manifest
from contract.metadata import from_metadata
from contract.part10 import Header
from tests.unit.chalicelib.builders import (
    BATCH,
    BUCKET,
    DATASTORE,
    NOW,
    files_of,
    memory_stores,
    outbox_of,
)
from tests.unit.chalicelib.calls import Calls, Crash, die
from tests.unit.contract.test_part10 import meta
from tests.unit.store_scp.builders import SOP_INSTANCE, STUDY, data_set, element

GIB = 1024**3


@dataclass
class Cloud:
    stores: Stores = field(default_factory=memory_stores)
    lock: Lock = field(default_factory=MemoryLock)

    @property
    def bodies(self) -> dict[tuple[str, str], bytes]:
        assert isinstance(self.stores.objects, MemoryObjects)
        return self.stores.objects.bodies

    def drop(self, **files: bytes) -> None:
        self.bodies.update({(BUCKET, f"dropbox/{name}"): body for name, body in files.items()})

    def keys(self, prefix: str) -> list[str]:
        return sorted(key for _, key in self.bodies if key.startswith(prefix))

    def box(self, files: Any = None, now: Any = lambda: NOW) -> Dropbox:
        files = files or files_of(self.stores)
        outbox = outbox_of(self.stores)
        return Dropbox(files, self.stores.instances, outbox, self.lock, now, "me")

    def manifests(self) -> list[Manifest]:
        keys = self.keys("batches/")
        return [Manifest.from_json(self.bodies[BUCKET, key]) for key in keys]


def a_file(sop: str = "1.2.3.4", study: str = "1.2.3", pixels: bytes = b"pixels") -> bytes:
    def padded(uid: str) -> bytes:
        return uid.encode() + b"\x00" * (len(uid) % 2)

    uids = {SOP_INSTANCE: padded(sop), STUDY: padded(study)}
    return meta() + data_set(replaced=uids, pixels=pixels)


def a_drop(name: str, size: int = 100, sop: str = "", study: str = "1.2") -> Dropped:
    header = Header("1.2.840.10008.5.1.4.1.1.2", sop or f"1.9.{name}", study, "1.2.3", None)
    return Dropped(StoredObject(f"dropbox/{name}", size, f"etag{name}", NOW), header, "1.2")


def test_a_study_becomes_one_batch_whatever_its_files_are_called() -> None:
    cloud = Cloud()
    cloud.drop(**{f"J. Doe/{number} {number}": a_file(f"1.2.3.{number}") for number in range(1, 8)})
    assert collect(cloud.box())
    (manifest,) = cloud.manifests()
    assert manifest.close_reason is CloseReason.DROPBOX
    assert [each.sop_instance_uid for each in manifest.instances] == [
        f"1.2.3.{number}" for number in range(1, 8)
    ]
    assert cloud.keys("instances/") == sorted(each.key for each in manifest.instances)
    assert cloud.keys("dropbox/") == []


def test_the_bytes_are_the_files_own_and_the_manifest_can_be_rebuilt_from_them() -> None:
    cloud = Cloud()
    cloud.drop(a=a_file())
    collect(cloud.box())
    (manifest,) = cloud.manifests()
    (instance,) = manifest.instances
    assert cloud.bodies[BUCKET, instance.key] == a_file()
    assert instance.checksum == Checksum.of(a_file())
    stored = files_of(cloud.stores).head(instance.key)
    rebuilt, sender, _ = from_metadata(instance.key, stored.size, stored.metadata, stored.checksum)
    assert (rebuilt, sender.calling_ae_title) == (instance, manifest.source.calling_ae_title)


def test_a_thousand_files_at_once_become_one_batch_however_many_invocations_come() -> None:
    cloud = Cloud()
    cloud.drop(**{f"{number:04}": a_file(f"1.2.3.{number}") for number in range(1, 1_001)})
    for _ in range(100):  # their events come ten at a time
        collect(cloud.box())
    assert [len(manifest.instances) for manifest in cloud.manifests()] == [1_000]


def test_each_study_has_a_batch_of_its_own() -> None:
    cloud = Cloud()
    cloud.drop(a=a_file(study="1.2.3"), b=a_file(study="1.2.4"))
    collect(cloud.box())
    studies = [{each.study_instance_uid for each in one.instances} for one in cloud.manifests()]
    assert sorted(studies, key=min) == [{"1.2.3"}, {"1.2.4"}]


def test_two_files_that_say_they_are_one_instance_are_both_kept() -> None:
    cloud = Cloud()
    cloud.drop(a=a_file(pixels=b"one"), b=a_file(pixels=b"another"))
    collect(cloud.box())
    one, another = cloud.manifests()
    assert one.instances[0].sop_instance_uid == another.instances[0].sop_instance_uid
    assert one.instances[0].checksum != another.instances[0].checksum


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not-part10"),
        (b"\x89PNG" * 100, "not-part10"),
        (meta(None) + data_set(), "no-transfer-syntax"),
        (meta() + data_set(without=STUDY), "no-study-instance-uid"),
        (a_file()[:200], "unreadable-header"),
    ],
)
def test_what_is_no_instance_goes_to_quarantine_under_its_reason(body: bytes, reason: str) -> None:
    cloud = Cloud()
    cloud.drop(**{"DOE^JANE.dcm": body})
    collect(cloud.box())
    ((_, key),) = cloud.bodies
    assert key.startswith(f"quarantine/{reason}/")
    assert "DOE" not in key
    metadata = files_of(cloud.stores).head(key).metadata
    assert metadata == {"reason": reason, "original-key": "dropbox/DOE%5EJANE.dcm"}


def test_two_bad_files_never_share_a_place() -> None:
    cloud = Cloud()
    cloud.drop(**{"a b": b"x", "a_b": b"x"})
    collect(cloud.box())
    assert len(cloud.keys("quarantine/not-part10/")) == 2


def test_a_folder_of_the_console_is_left_alone() -> None:
    cloud = Cloud()
    cloud.drop(**{"folder/": b""})
    collect(cloud.box())
    assert cloud.keys("") == ["dropbox/folder/"]


def test_a_header_that_is_longer_than_the_first_look_is_read_with_a_second() -> None:
    private = element((0x0009, 0x1001), b"OB", bytes(BEGINNING_BYTES))
    whole = data_set()
    at = whole.index(element(STUDY, b"UI", b"1.2.3\x00")[:4])
    cloud = Cloud()
    cloud.drop(a=meta() + whole[:at] + private + whole[at:])
    collect(cloud.box())
    assert len(cloud.manifests()) == 1


def test_only_one_invocation_collects_at_a_time() -> None:
    cloud = Cloud()
    cloud.drop(a=a_file())
    assert cloud.lock.take("another", NOW, NOW + timedelta(minutes=1))
    assert not collect(cloud.box())
    assert collect(cloud.box(now=lambda: NOW + timedelta(minutes=2)))  # the other one has died
    assert len(cloud.manifests()) == 1


def test_the_lock_is_left_behind_an_error() -> None:
    class Broken:
        def list(self, *_: str) -> None:
            raise ServiceUnavailable("ListObjectsV2 failed")

    cloud = Cloud()
    with pytest.raises(ServiceUnavailable):
        collect(cloud.box(Broken()))
    assert cloud.lock.take("another", NOW, NOW)


def test_collecting_stops_in_time_and_goes_on_with_the_next_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("chalicelib.intake.dropbox._ROUND", 2)
    times = iter([NOW, NOW + timedelta(seconds=90), NOW, NOW, NOW])
    cloud = Cloud()
    cloud.drop(**{str(number): a_file(f"1.2.3.{number}") for number in range(4)})
    collect(cloud.box(now=lambda: next(times)))
    assert len(cloud.keys("dropbox/")) == 2
    collect(cloud.box(now=lambda: next(times)))
    assert cloud.keys("dropbox/") == []


@pytest.mark.parametrize("method", ["begin", "copy", "create"])
def test_what_cannot_be_read_or_copied_now_stays_and_is_taken_later(method: str) -> None:
    class Unavailable:
        def __init__(self, files: Files) -> None:
            self._files = files

        def __getattr__(self, name: str) -> Any:
            return self.fail if name == method else getattr(self._files, name)

        def fail(self, *_: object) -> None:
            raise ServiceUnavailable("S3 failed")

    cloud = Cloud()
    cloud.drop(good=a_file(), bad=b"not DICOM")
    collect(cloud.box(Unavailable(files_of(cloud.stores))))
    assert "dropbox/good" in cloud.keys("dropbox/")
    assert cloud.manifests() == []
    collect(cloud.box())
    assert len(cloud.manifests()) == 1
    assert cloud.keys("dropbox/") == []


def test_an_object_that_is_gone_or_was_replaced_is_left_out() -> None:
    cloud = Cloud()
    cloud.drop(a=a_file("1.2.3.1"), b=a_file("1.2.3.2"))
    files = files_of(cloud.stores)

    class Replaced:
        def __getattr__(self, name: str) -> Any:
            return self.begin if name == "begin" else getattr(files, name)

        def begin(self, key: str, size: int) -> Any:
            found = files.begin(key, size)
            if key == "dropbox/b":
                cloud.drop(b=a_file("1.2.3.3"))
            return found

    import_dropped(["dropbox/a", "dropbox/b", "dropbox/gone"], cloud.box(Replaced()))
    (manifest,) = cloud.manifests()
    assert [each.sop_instance_uid for each in manifest.instances] == ["1.2.3.1"]
    assert cloud.keys("dropbox/") == ["dropbox/b"]


def outcome(cloud: Cloud) -> Any:
    """What is left, with copies of no batch not counted: reconciliation removes those."""
    listed = [each for manifest in cloud.manifests() for each in manifest.instances]
    assert all((BUCKET, each.key) in cloud.bodies for each in listed)
    quarantined = cloud.keys("quarantine/")
    outbox = outbox_of(cloud.stores)
    events = [outbox.event(key) for key in outbox.due(Due.EVENT, NOW)]
    assert [each and each.detail["key"] for each in events] == quarantined
    return sorted(each.sop_instance_uid for each in listed), cloud.keys("dropbox/"), len(events)


def a_full_dropbox() -> Cloud:
    cloud = Cloud()
    cloud.drop(a=a_file("1.2.3.1"), b=a_file("1.2.3.2"), c=a_file("1.2.3.3", "1.8"), bad=b"bad")
    return cloud


def run_with_a_crash(dies_at: int, between: Any) -> Cloud:
    cloud = a_full_dropbox()
    with pytest.raises(Crash):
        collect(cloud.box(Calls({dies_at: die}).port(files_of(cloud.stores))))
    cloud.lock = MemoryLock()  # its time is over
    between(cloud)
    collect(cloud.box())
    return cloud


def number_of_calls() -> int:
    cloud = a_full_dropbox()
    calls = Calls()
    collect(cloud.box(calls.port(files_of(cloud.stores))))
    return calls.number


@pytest.mark.parametrize("dies_at", range(number_of_calls()))
def test_a_crash_at_any_call_loses_nothing_and_imports_nothing_twice(dies_at: int) -> None:
    uncrashed = a_full_dropbox()
    collect(uncrashed.box())
    assert outcome(run_with_a_crash(dies_at, lambda _: None)) == outcome(uncrashed)


@pytest.mark.parametrize("dies_at", range(number_of_calls()))
def test_a_file_that_comes_between_crash_and_next_try_changes_nothing_of_that(dies_at: int) -> None:
    def between(cloud: Cloud) -> None:
        for key in cloud.keys("batches/"):  # its event came meanwhile
            close_batch(BUCKET, key, cloud.stores, DATASTORE, NOW)
        cloud.drop(aa=a_file("1.2.3.9"))

    cloud = run_with_a_crash(dies_at, between)
    assert outcome(cloud) == (["1.2.3.1", "1.2.3.2", "1.2.3.3", "1.2.3.9"], [], 1)


def test_a_group_is_named_by_what_is_in_it_and_as_old_as_its_newest_object() -> None:
    one, another = a_drop("1"), a_drop("2")
    assert group_id([one, another]) == group_id([one, another])
    assert group_id([one]) != group_id([one, another])
    later = NOW + timedelta(minutes=5)
    newer = replace(one, source=replace(one.source, etag="newer", modified_at=later))
    assert group_id([another, newer]).startswith("20261123T093500Z-")
    same_time = replace(one, source=replace(one.source, etag="newer"))
    assert group_id([one]) != group_id([same_time])


def test_a_batch_stays_below_what_a_job_may_have() -> None:
    assert [len(group) for group in plan([a_drop("a", 5 * GIB), a_drop("b", 4 * GIB)])] == [1, 1]
    assert [len(group) for group in plan([a_drop("a", 9 * GIB), a_drop("b", 1)])] == [1, 1]
    many = plan(a_drop(str(number), 1) for number in range(job_limits.BATCH.files + 1))
    assert [len(group) for group in many] == [job_limits.BATCH.files, 1]
    small = replace(job_limits.BATCH, metadata_bytes=20_000)
    cut = plan((a_drop(str(n), 10_000) for n in range(5)), small)
    assert [len(group) for group in cut] == [2, 2, 1]


def test_a_file_beyond_healthimagings_limit_is_unfit() -> None:
    source = StoredObject("dropbox/a", job_limits.JOB.size_bytes + 1, "e", NOW)
    found = judge(a_file(), source)
    assert isinstance(found, Unfit)
    assert found.reason == "too-large"


many_drops = st.lists(
    st.builds(
        a_drop,
        st.text("abc", min_size=1, max_size=4),
        st.integers(1, 9 * GIB),
        st.sampled_from(["1.1", "1.2", "1.3"]),
        st.sampled_from(["1.4", "1.5"]),
    ),
    max_size=30,
    unique_by=lambda each: each.source.key,
)


@given(many_drops)
def test_every_drop_is_in_one_group_and_every_group_could_be_a_job(found: list[Dropped]) -> None:
    groups = plan(found)
    planned = sorted(each.source.key for group in groups for each in group)
    assert planned == sorted(each.source.key for each in found)
    for group in groups:
        assert len({each.header.study_instance_uid for each in group}) == 1
        keys = {str(each.key(BATCH)) for each in group}
        assert len(keys) == len(group) <= job_limits.BATCH.files
        assert (
            len(group) == 1
            or sum(each.source.size for each in group) <= job_limits.BATCH.size_bytes
        )


@given(st.binary(max_size=400), st.integers(0, 1000))
def test_any_bytes_are_a_drop_or_unfit(data: bytes, more: int) -> None:
    for begin in (data, meta() + data):
        found = judge(begin, StoredObject("dropbox/\u00e9 ^", len(begin) + more, "e", NOW))
        if isinstance(found, Unfit):
            assert found.target.isascii()
            assert all(text.isascii() for text in found.metadata.values())
