"""What is moved out of what HealthImaging imports, and where it then is said to be."""

import pytest
from chalicelib.imports.aside import failed_key, invalid_manifest_key, move_all
from chalicelib.stores.files import Files
from chalicelib.stores.memory import MemoryObjects
from chalicelib.stores.memory_files import MemoryFiles

from tests.unit.chalicelib.builders import BATCH, BUCKET, an_instance

KEY = an_instance("1.2.3.1").key


@pytest.fixture
def objects() -> MemoryObjects:
    return MemoryObjects()


@pytest.fixture
def files(objects: MemoryObjects) -> Files:
    files = MemoryFiles(objects, BUCKET)
    files.put(KEY, b"bytes")
    return files


def test_what_s3_does_not_let_go_stays(files: Files, objects: MemoryObjects) -> None:
    objects.denied.add((BUCKET, KEY))
    assert move_all(files, [KEY], failed_key, "why") == {KEY}
    assert set(objects.bodies) == {(BUCKET, KEY)}


def test_what_an_earlier_try_has_moved_does_not_stay_though_s3_denies_its_old_key(
    files: Files, objects: MemoryObjects
) -> None:
    """Its row would name a key under which nothing is."""
    move_all(files, [KEY], failed_key, "why")
    objects.denied.add((BUCKET, KEY))
    assert move_all(files, [KEY], failed_key, "why") == set()
    assert set(objects.bodies) == {(BUCKET, failed_key(KEY))}


def test_two_keys_that_others_chose_never_have_one_place() -> None:
    places = {
        invalid_manifest_key(f"batches/{name}.json") for name in ("a b", "a_b", "DOE^J", BATCH)
    }
    assert len(places) == 4
    assert not any("DOE" in place for place in places)
    assert f"quarantine/invalid-manifest/{BATCH}.json" in places
