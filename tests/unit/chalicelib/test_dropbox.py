"""The dropbox over the in-memory twins."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from chalicelib.errors import ObjectDenied, ServiceUnavailable
from chalicelib.events.event import EventType
from chalicelib.intake.dropbox import BEGINNING_BYTES, Dropbox, collect, import_dropped
from chalicelib.intake.drops import Dropped, Unfit, group_id, judge, plan
from chalicelib.intake.recovery import Recovery, recover_batches
from chalicelib.intake.trigger import close_batch
from chalicelib.isolation import Isolation
from chalicelib.settings import RecoverySettings
from chalicelib.stores import Stores
from chalicelib.stores.blocked import Blocked, Work
from chalicelib.stores.blocked import listed as listed_blocked
from chalicelib.stores.files import Files, StoredObject
from chalicelib.stores.lock import Lock, MemoryLock
from chalicelib.stores.memory import MemoryObjects
from chalicelib.stores.outbox import Due
from hypothesis import given
from hypothesis import strategies as st

from contract import job_limits
from contract.checksums import Checksum
from contract.header import Header
from contract.keys import manifest_key
from contract.manifest import CloseReason, Manifest
from contract.metadata import from_metadata
from contract.records import BatchState
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
MINUTE = timedelta(minutes=1)


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
        return Dropbox(files, self.stores, outbox_of(self.stores), self.lock, now, "me")

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


@pytest.mark.parametrize("crash", [False, True])
def test_a_batch_whose_manifests_event_is_lost_is_closed_by_recovery(crash: bool) -> None:
    class Dying:
        def __getattr__(self, name: str) -> Any:
            return self.die if name == "create" else getattr(files_of(cloud.stores), name)

        def die(self, key: str, body: bytes) -> None:
            files_of(cloud.stores).create(key, body)
            raise Crash

    cloud = Cloud()
    cloud.drop(a=a_file(), b=a_file("1.2.3.5"))
    if crash:  # between the manifest and the record
        with pytest.raises(Crash):
            collect(cloud.box(Dying()))
    collect(cloud.box())
    (line,) = cloud.stores.batches.lines(BatchState.OPEN)
    later = NOW + 5 * MINUTE
    recovery = Recovery(
        cloud.stores, outbox_of(cloud.stores), files_of(cloud.stores),
        RecoverySettings(dicom_bucket=BUCKET, datastore_id=DATASTORE), later,
    )  # fmt: skip
    recover_batches(recovery)
    batch = cloud.stores.batches.get(line.batch_id)
    assert batch is not None
    assert (batch.state, batch.counts.instances) == (BatchState.CLOSED, 2)
    assert cloud.keys("dropbox/") == []
    assert len(cloud.manifests()) == 1


def test_a_group_without_a_manifest_is_not_imported_by_recovery() -> None:
    """Else an object that was replaced meanwhile is imported behind the one that replaced it."""

    class Away:
        def __getattr__(self, name: str) -> Any:
            return self.fail if name == "create" else getattr(files_of(cloud.stores), name)

        def fail(self, *_: object) -> None:
            raise ServiceUnavailable("S3 failed")

    cloud = Cloud()
    cloud.drop(a=a_file(pixels=b"wrong"))
    with pytest.raises(ServiceUnavailable):
        collect(cloud.box(Away()))
    cloud.drop(a=a_file(pixels=b"right"))
    collect(cloud.box(now=lambda: NOW + MINUTE))
    recovery = Recovery(
        cloud.stores, outbox_of(cloud.stores), files_of(cloud.stores),
        RecoverySettings(dicom_bucket=BUCKET, datastore_id=DATASTORE), NOW + 10 * MINUTE,
    )  # fmt: skip
    assert recover_batches(recovery) == 1
    (manifest,) = cloud.manifests()
    assert cloud.bodies[BUCKET, manifest.instances[0].key] == a_file(pixels=b"right")


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
    cloud = Cloud()
    cloud.drop(**{str(number): a_file(f"1.2.3.{number}") for number in range(4)})

    def now() -> datetime:
        return NOW + timedelta(seconds=90 if len(cloud.keys("dropbox/")) == 2 else 0)

    collect(cloud.box(now=now))
    assert len(cloud.keys("dropbox/")) == 2
    collect(cloud.box(now=now))
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
    with pytest.raises(ServiceUnavailable, match="put off"):
        collect(cloud.box(Unavailable(files_of(cloud.stores))))
    assert "dropbox/good" in cloud.keys("dropbox/")
    assert cloud.manifests() == []
    collect(cloud.box(now=lambda: NOW + MINUTE))
    assert len(cloud.manifests()) == 1
    assert cloud.keys("dropbox/") == []
    assert listing(cloud) == []


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

    sources = [*files.list("dropbox/"), StoredObject("dropbox/gone", 1, "e", NOW)]
    box = cloud.box(Replaced())
    import_dropped(sources, box, Isolation(Work.DROPBOX, box.stores.blocked, box.outbox, box.now))
    (manifest,) = cloud.manifests()
    assert [each.sop_instance_uid for each in manifest.instances] == ["1.2.3.1"]
    assert cloud.keys("dropbox/") == ["dropbox/b"]


def outcome(cloud: Cloud) -> Any:
    """What is left, with copies of no batch not counted: reconciliation removes those.

    A second copy of one object has the same bytes, so it is left out of the import as a duplicate.
    """
    listed = [each for manifest in cloud.manifests() for each in manifest.instances]
    assert all((BUCKET, each.key) in cloud.bodies for each in listed)
    contents = {(each.sop_instance_uid, cloud.bodies[BUCKET, each.key]) for each in listed}
    quarantined = cloud.keys("quarantine/")
    outbox = outbox_of(cloud.stores)
    events = [outbox.event(key) for key in outbox.due(Due.EVENT, NOW)]
    assert [each and each.detail["key"] for each in events] == quarantined
    return sorted(uid for uid, _ in contents), cloud.keys("dropbox/"), len(events)


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
def test_a_crash_at_any_call_loses_nothing_and_copies_at_most_the_same_again(dies_at: int) -> None:
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


class Faulty:
    """Files of which some calls fail: ``faults`` by method and key."""

    def __init__(self, files: Files, faults: Mapping[tuple[str, str], Exception]) -> None:
        self._files = files
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._files, name)

        def call(first: Any, *rest: Any) -> Any:
            key = first.key if isinstance(first, StoredObject) else first
            if (name, key) in self._faults:
                raise self._faults[name, key]
            return found(first, *rest)

        return call if callable(found) else found


DENIED = ObjectDenied("GetObject: InvalidObjectState")


@pytest.mark.fault("object-denied")
@pytest.mark.parametrize(
    ("method", "body"),
    [
        ("begin", a_file()),  # archived, SSE-C, another owner's, a key that the role may not use
        ("copy", a_file()),  # its tags may not be copied, its target's key not be used
        ("copy", b"no DICOM"),
        ("delete", a_file()),
        ("delete", b"no DICOM"),
    ],
)
@pytest.mark.parametrize("error", [DENIED, KeyError("a bug")])
def test_one_object_that_fails_is_named_and_stops_no_other(
    method: str, body: bytes, error: Exception
) -> None:
    cloud = Cloud()
    cloud.drop(a=a_file("1.2.3.1"), bad=body, z=a_file("1.2.3.9", "1.8"))
    faulty = Faulty(files_of(cloud.stores), {(method, "dropbox/bad"): error})
    collect(cloud.box(faulty))
    assert cloud.keys("dropbox/") == ["dropbox/bad"]
    listed = {each.sop_instance_uid for one in cloud.manifests() for each in one.instances}
    assert {"1.2.3.1", "1.2.3.9"} <= listed
    (record,) = listing(cloud)
    assert (record.work, record.reason) == (Work.DROPBOX, type(error).__name__)
    assert "bad" not in record.subject
    events = [outbox_of(cloud.stores).event(key) for key in blocked_events(cloud)]
    assert [each and each.detail["subject"] for each in events] == [record.subject]


def listing(cloud: Cloud) -> list[Blocked]:
    return list(listed_blocked(cloud.stores.blocked, Work))


def blocked_events(cloud: Cloud) -> list[str]:
    outbox = outbox_of(cloud.stores)
    events = {key: outbox.event(key) for key in outbox.due(Due.EVENT, NOW)}
    return [key for key, each in events.items() if each and each.type is EventType.WORK_BLOCKED]


def test_what_was_denied_is_skipped_then_tried_again_and_imported_once_it_is_allowed() -> None:
    cloud = Cloud()
    cloud.drop(a=a_file())
    files = files_of(cloud.stores)
    collect(cloud.box(Faulty(files, {("begin", "dropbox/a"): DENIED})))
    collect(cloud.box())
    assert cloud.keys("dropbox/") == ["dropbox/a"]
    collect(cloud.box(now=lambda: NOW + MINUTE))
    assert cloud.keys("dropbox/") == []
    assert len(cloud.manifests()) == 1
    assert listing(cloud) == []


def test_an_object_that_somebody_has_taken_away_is_blocked_no_more() -> None:
    cloud = Cloud()
    cloud.drop(a=a_file())
    collect(cloud.box(Faulty(files_of(cloud.stores), {("begin", "dropbox/a"): DENIED})))
    del cloud.bodies[BUCKET, "dropbox/a"]
    collect(cloud.box())
    assert listing(cloud) == []


def test_a_group_whose_manifest_is_denied_stops_no_other_group() -> None:
    cloud = Cloud()
    cloud.drop(a=a_file(study="1.2.3"), b=a_file(study="1.2.4"))
    files = files_of(cloud.stores)
    denied = {("create", manifest_key(an_id)): DENIED for an_id in [group_of(cloud, "a")]}
    collect(cloud.box(Faulty(files, denied)))
    assert cloud.keys("dropbox/") == ["dropbox/a"]
    assert [record.subject for record in listing(cloud)] == [group_of(cloud, "a")]
    collect(cloud.box(now=lambda: NOW + MINUTE))
    assert cloud.keys("dropbox/") == []
    assert listing(cloud) == []


def group_of(cloud: Cloud, name: str) -> str:
    found = judge(*files_of(cloud.stores).begin(f"dropbox/{name}", BEGINNING_BYTES))
    assert isinstance(found, Dropped)
    return group_id([found])


def test_a_copy_that_may_not_be_read_blocks_its_object_and_no_other() -> None:
    """Nobody can say whether the object was imported."""
    cloud = Cloud()
    cloud.drop(a=a_file("1.2.3.1"))
    collect(cloud.box())
    (key,) = cloud.keys("batches/")
    close_batch(BUCKET, key, cloud.stores, DATASTORE, NOW)
    cloud.drop(a=a_file("1.2.3.1"), b=a_file("1.2.3.2"))
    (copy,) = cloud.keys("instances/")
    collect(cloud.box(Faulty(files_of(cloud.stores), {("head", copy): DENIED})))
    assert cloud.keys("dropbox/") == ["dropbox/a"]
    assert len(listing(cloud)) == 1


@pytest.mark.parametrize(
    ("body", "step"), [(a_file(), "copy"), (a_file(), "create"), (b"no DICOM", "copy")]
)
def test_a_file_that_replaces_another_while_that_is_collected_is_collected_as_well(
    body: bytes, step: str
) -> None:
    cloud = Cloud()
    cloud.drop(a=body)
    files, newer = files_of(cloud.stores), a_file("1.2.3.77")

    class Replacing:
        def __getattr__(self, name: str) -> Any:
            found = getattr(files, name)

            def call(*arguments: Any) -> Any:
                answer = found(*arguments)
                if name == step:
                    cloud.drop(a=newer)
                return answer

            return call if callable(found) else found

    collect(cloud.box(Replacing()))
    assert cloud.bodies[BUCKET, "dropbox/a"] == newer
    assert listing(cloud) == []
    collect(cloud.box())
    uids = {each.sop_instance_uid for one in cloud.manifests() for each in one.instances}
    assert "1.2.3.77" in uids
    assert cloud.keys("dropbox/") == []


def test_a_key_like_a_folders_that_has_bytes_is_imported_and_a_folder_is_left_alone() -> None:
    cloud = Cloud()
    cloud.drop(**{"CT/": a_file(), "MR/": b""})
    collect(cloud.box())
    assert len(cloud.manifests()) == 1
    assert cloud.keys("dropbox/") == ["dropbox/MR/"]


def test_what_a_try_could_not_copy_is_never_copied_behind_its_manifest() -> None:
    """The batch may be imported by then: the copy would be in no manifest."""
    cloud = Cloud()
    cloud.drop(a=a_file("1.2.3.1"), b=a_file("1.2.3.2"))
    files = files_of(cloud.stores)
    faults = {("copy", "dropbox/b"): DENIED, ("delete", "dropbox/a"): DENIED}
    collect(cloud.box(Faulty(files, faults)))
    for minute in range(1, 4):
        collect(cloud.box(now=lambda minute=minute: NOW + minute * MINUTE))
    assert cloud.keys("dropbox/") == []
    listed = [each.key for one in cloud.manifests() for each in one.instances]
    assert cloud.keys("instances/") == sorted(listed)
    assert len(listed) == 2


def test_an_object_that_s3_never_copies_keeps_none_of_its_study_back_and_is_named() -> None:
    cloud = Cloud()
    cloud.drop(a=a_file("1.2.3.1"), b=a_file("1.2.3.2"), c=a_file("1.2.3.3"))
    faulty = Faulty(
        files_of(cloud.stores), {("copy", "dropbox/b"): ServiceUnavailable("CopyObject failed")}
    )
    for minute in range(5):
        with pytest.raises(ServiceUnavailable, match="1 subjects were put off"):
            collect(cloud.box(faulty, now=lambda minute=minute: NOW + minute * MINUTE))
    listed = {each.sop_instance_uid for one in cloud.manifests() for each in one.instances}
    assert listed == {"1.2.3.1", "1.2.3.3"}
    (record,) = listing(cloud)
    assert (record.reason, record.tries) == ("ServiceUnavailable", 5)
    assert record.next_try_at - record.tried_at == MINUTE
    assert blocked_events(cloud) == []


def test_a_file_that_is_dropped_again_later_is_imported_again() -> None:
    """Its first import may have failed, or its image set may be deleted: the claims decide."""
    cloud = Cloud()
    cloud.drop(a=a_file())
    collect(cloud.box())
    (key,) = cloud.keys("batches/")
    close_batch(BUCKET, key, cloud.stores, DATASTORE, NOW)
    cloud.drop(a=a_file())

    class Newer:
        """The object in the dropbox was put an hour after its copy was made."""

        def __init__(self) -> None:
            self.files = files_of(cloud.stores)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.files, name)

        def begin(self, key: str, size: int) -> tuple[bytes, StoredObject]:
            data, found = self.files.begin(key, size)
            return data, replace(found, modified_at=found.modified_at + timedelta(hours=1))

    collect(cloud.box(Newer()))
    assert len(cloud.manifests()) == 2
    assert cloud.keys("dropbox/") == []
