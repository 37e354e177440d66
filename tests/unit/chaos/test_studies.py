import random
from collections.abc import Mapping

import pytest
from awscrt.checksums import crc64nvme
from pydicom import dcmread
from store_scp.part10 import file_meta

from contract.checksums import Checksum
from tests.chaos.contents import Variant
from tests.chaos.studies import Image, new_study, varied


def received(image: Image) -> bytes:
    """What the receiver makes of it: a file meta of its own before the data set."""
    data_set = dcmread(image.path)
    body = image.path.read_bytes()
    meta = file_meta(
        data_set.SOPClassUID, data_set.SOPInstanceUID, data_set.file_meta.TransferSyntaxUID
    )
    return meta + body[body.index(b"\x08\x00\x16\x00UI") :]


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Mapping[Variant, list[Image]]:
    """A study, and every other version of it."""
    chance = random.Random(1)  # noqa: S311
    study = new_study(tmp_path_factory.mktemp("study"), chance)
    return {
        each: study if each is Variant.ORIGINAL else varied(study, each, chance) for each in Variant
    }


def test_a_content_is_what_the_receiver_keeps(versions: Mapping[Variant, list[Image]]) -> None:
    for image in (images[0] for images in versions.values()):
        assert image.content.digest == Checksum.of(received(image))
        data_set = dcmread(image.path)
        uids = (data_set.StudyInstanceUID, data_set.SeriesInstanceUID, data_set.SOPInstanceUID)
        assert image.content.instance == "/".join(uids)


def test_every_version_has_other_bytes_and_the_sop_instance_uids_of_the_first(
    versions: Mapping[Variant, list[Image]],
) -> None:
    contents = [image.content for images in versions.values() for image in images]
    assert len({each.digest for each in contents}) == len(contents)
    instances = {
        variant: [image.content.instance.split("/") for image in images]
        for variant, images in versions.items()
    }
    first = instances[Variant.ORIGINAL]
    differ = {
        variant: {n for a, b in zip(first, others, strict=True) for n in range(3) if a[n] != b[n]}
        for variant, others in instances.items()
    }
    assert differ == {
        Variant.ORIGINAL: set(),
        Variant.CORRECTED: set(),
        Variant.FORGED: set(),
        Variant.MOVED: {0},
        Variant.SECOND_SERIES: {1},
    }


def test_what_is_forged_has_the_checksum_that_s3_knows_the_first_by(
    versions: Mapping[Variant, list[Image]],
) -> None:
    pairs = zip(versions[Variant.ORIGINAL], versions[Variant.FORGED], strict=True)
    for original, forged in pairs:
        assert crc64nvme(received(original)) == crc64nvme(received(forged))
