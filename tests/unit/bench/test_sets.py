"""The images: readable, each its own, and of the sizes the tables speak of."""

import hashlib
from io import BytesIO
from itertools import islice

import pydicom
import pytest

from bench.receiver.check import digest
from bench.receiver.sets import CT, LARGE, SETS, SMALL, ImageSet


@pytest.mark.parametrize("image_set", [CT, SMALL])
def test_an_image_is_a_data_set_with_its_own_uid(image_set: ImageSet) -> None:
    image = list(islice(image_set.images(2), 2))[1]
    data_set = pydicom.dcmread(BytesIO(b"".join(image.chunks())), force=True)
    assert data_set.SOPInstanceUID == image.sop_instance_uid
    assert data_set.SOPClassUID == image.sop_class_uid
    assert len(data_set.PixelData) == image_set.rows**2 * 2
    assert len(data_set) > 200


@pytest.mark.parametrize(("image_set", "size"), [(CT, 530e3), (SMALL, 39e3), (LARGE, 210e6)])
def test_an_image_has_the_size_its_set_promises(image_set: ImageSet, size: float) -> None:
    assert next(image_set.images(1)).size == pytest.approx(size, rel=0.01)


@pytest.mark.parametrize("image_set", SETS.values())
def test_images_of_a_set_differ_in_uid_and_pixels_but_not_in_length(image_set: ImageSet) -> None:
    images = list(image_set.images(image_set.count))
    assert len({image.sop_instance_uid for image in images}) == image_set.count
    assert len({image.noise_at for image in images}) == image_set.count
    assert len({image.size for image in images}) == 1


def test_an_image_is_as_long_as_it_says_also_where_the_noise_begins_again() -> None:
    image = next(LARGE.images(1))
    assert sum(len(chunk) for chunk in image.chunks()) == image.size


def test_the_expected_digest_is_that_of_the_bytes_sent() -> None:
    image = next(SMALL.images(1))
    whole = b"".join(image.chunks())
    assert image.digest() == hashlib.sha256(whole).hexdigest() == digest(iter([whole]))
    assert SMALL.digests(1) == {image.digest()}
