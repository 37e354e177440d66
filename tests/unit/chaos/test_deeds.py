from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

import boto3
import pytest

from contract.checksums import Checksum
from local import names
from local.healthimaging import ManualScheduler, install
from local.healthimaging.image_sets import ImageSet, Instance, Version
from local.healthimaging.models import MedicalImagingBackend, medicalimaging_backends
from local.healthimaging.records import Datastore
from tests.chaos.contents import Content
from tests.chaos.deeds import Archive, delete_image_sets
from tests.chaos.facts import Copy
from tests.chaos.holdings import copies, service_jobs, unfinished
from tests.chaos.weather import Endpoint


def test_some_instances_are_archived_and_all_of_them_are_restored_at_last(
    server: Endpoint,
) -> None:
    s3, archive = boto3.client("s3", endpoint_url=server.url), Archive(server.url)
    keys = [f"{place}/{n}" for place in ("instances", "quarantine", "batches") for n in range(60)]
    s3.create_bucket(Bucket=names.DICOM_BUCKET)

    def archived() -> Counter[str]:
        found: Counter[str] = Counter()
        for key in keys:
            try:
                s3.get_object(Bucket=names.DICOM_BUCKET, Key=key)
            except s3.exceptions.InvalidObjectState:
                found[key.partition("/")[0]] += 1
        return found

    def listed() -> list[object]:
        contents = s3.list_objects_v2(Bucket=names.DICOM_BUCKET)["Contents"]
        return [(each["Key"], each["ETag"], each["LastModified"]) for each in contents]

    try:
        for key in keys:
            s3.put_object(Bucket=names.DICOM_BUCKET, Key=key, Body=b"a")
        before = listed()
        archive.fill("seed")
        at_first = archived()
        hidden = {key for key in keys if any(each.hits(key) for each in archive.outages.all())}
        assert len(hidden) == at_first.total()
        assert all(each.until is None for each in archive.outages.all())
        assert at_first.keys() == {"instances", "quarantine"}
        assert listed() == before
        archive.thin("seed")
        left = archived().total()
        assert 0 < left < at_first.total()
        assert archive.empty() == left
        assert archived().total() == 0
        assert all(each.until is not None for each in archive.outages.all())
        assert listed() == before
    finally:
        for key in keys:
            s3.delete_object(Bucket=names.DICOM_BUCKET, Key=key)
        s3.delete_bucket(Bucket=names.DICOM_BUCKET)


@pytest.fixture
def clock() -> Iterator[ManualScheduler]:
    emulator, clock = install(), ManualScheduler()
    backend().reset()  # another test may have left its data stores
    emulator.use_scheduler(clock)
    yield clock
    backend().reset()
    emulator.shutdown()


def backend() -> MedicalImagingBackend:
    return medicalimaging_backends[names.ACCOUNT_ID][names.REGION]


def instance(uid: str, stored_id: str) -> Instance:
    backend()._files.put(stored_id, stored_id.encode())
    uids = {"StudyInstanceUID": "1", "SeriesInstanceUID": "2", "SOPInstanceUID": uid}
    return Instance(stored_id, "1.2.840.10008.1.2.1", uids)


def a_datastore() -> Datastore:
    made: Datastore = backend().create_datastore({"clientToken": "token"})
    return made


def copy(uid: str, stored_id: str, version: int, stored_at: float) -> Copy:
    content = Content(f"1/2/{uid}", Checksum.of(stored_id.encode()))
    return Copy(content, "a", version, datetime.fromtimestamp(stored_at, UTC))


def test_each_file_of_every_version_is_a_copy_and_stays_one_when_it_is_deleted(
    clock: ManualScheduler,
) -> None:
    first = {"1.1": instance("1.1", "one"), "1.2": instance("1.2", "two")}
    second = {**first, "1.1": instance("1.1", "one again")}
    datastore = a_datastore()
    versions = (Version(1, 100.0, first), Version(2, 200.0, second))
    datastore.image_sets = {"a": ImageSet("a", is_primary=True, versions=versions)}
    found = [
        copy("1.1", "one", 1, 100.0),
        copy("1.2", "two", 1, 100.0),
        copy("1.1", "one again", 2, 200.0),
    ]
    assert list(copies()) == found
    backend().delete_image_set(datastore.datastore_id, "a")
    assert unfinished()["deletions"] == 1
    assert all(each.deleted_at for each in copies())
    clock.advance(1.0)
    assert unfinished() == {"jobs in HealthImaging": 0, "deletions": 0}
    deleted = list(copies())
    assert [each.content for each in deleted] == [each.content for each in found]
    assert all(each.deleted_at and not each.is_there for each in deleted)
    assert not list(service_jobs())


def test_some_image_sets_are_deleted_and_those_that_go_already_are_left_alone(
    clock: ManualScheduler,
) -> None:
    datastore = a_datastore()
    version = Version(1, 100.0, {"1.1": instance("1.1", "one")})
    names_of_sets = [str(number) for number in range(100)]
    datastore.image_sets = {
        each: ImageSet(each, is_primary=True, versions=(version,)) for each in names_of_sets
    }
    deleted = delete_image_sets("seed")
    assert 0 < deleted < len(names_of_sets)
    assert delete_image_sets("seed") == 0
    clock.advance(1.0)
    assert len(datastore.image_sets) == len(names_of_sets) - deleted
