"""The images: readable, each its own, and of the sizes the tables speak of."""

import hashlib
import struct
from io import BytesIO
from itertools import islice, pairwise

import pydicom
import pytest

from bench.receiver.check import digest
from bench.receiver.sender import RAW_MAX_PDU, message
from bench.receiver.sets import (
    CT,
    LARGE,
    MIXED,
    SETS,
    SMALL,
    SMALL_MIXED,
    TRANSFER_SYNTAX,
    ImageSet,
)
from contract.header import read_header

ONE_LAYOUT = (CT, SMALL, LARGE)
SEVERAL = (MIXED, SMALL_MIXED)
# Every layout in every variant, and the first of them again.
ALL_TEMPLATES = 45


@pytest.mark.parametrize("image_set", [CT, SMALL])
def test_an_image_is_a_data_set_with_its_own_uid(image_set: ImageSet) -> None:
    image = list(islice(image_set.images(2), 2))[1]
    data_set = pydicom.dcmread(BytesIO(b"".join(image.chunks())), force=True)
    assert data_set.SOPInstanceUID == image.sop_instance_uid
    assert data_set.SOPClassUID == image.sop_class_uid
    assert len(data_set.PixelData) == image_set.rows**2 * 2
    assert data_set.Rows == data_set.Columns == image_set.rows
    assert len(data_set) > 200


@pytest.mark.parametrize("image_set", [MIXED, SMALL_MIXED])
def test_each_image_of_a_mixed_set_is_read_by_pydicom_and_by_the_receivers_reader(
    image_set: ImageSet,
) -> None:
    for image in image_set.images(ALL_TEMPLATES):
        whole = b"".join(image.chunks())
        read = read_header(memoryview(whole), TRANSFER_SYNTAX)
        assert (read.sop_class_uid, read.sop_instance_uid) == (
            image.sop_class_uid,
            image.sop_instance_uid,
        )
        data_set = pydicom.dcmread(BytesIO(whole), force=True)
        assert (data_set.SOPInstanceUID, data_set.PatientID) == (image.sop_instance_uid, "BENCH")
        assert len(data_set.PixelData) == image.pixel_bytes
        assert image_set.sop_class_uids.index(image.sop_class_uid) * 2 + 1 == image.context_id


def test_no_two_images_in_a_row_of_a_mixed_set_have_one_layout_or_one_length() -> None:
    images = list(MIXED.images(ALL_TEMPLATES))
    for one, other in pairwise(images):
        assert len(one.header) != len(other.header)
        assert first_tags(one.header) != first_tags(other.header)
    assert len({first_tags(image.header) for image in images}) == len(MIXED.layouts)
    assert len({len(image.sop_instance_uid) for image in images}) > 1


def first_tags(header: bytes) -> tuple[int, ...]:
    """What of a header is layout: its tags."""
    return tuple(pydicom.dcmread(BytesIO(header), force=True, stop_before_pixels=True).keys())


@pytest.mark.parametrize(
    ("image_set", "size"),
    [(CT, 530e3), (MIXED, 530e3), (SMALL, 39e3), (SMALL_MIXED, 39e3), (LARGE, 210e6)],
)
def test_an_image_has_the_size_its_set_promises(image_set: ImageSet, size: float) -> None:
    assert next(image_set.images(1)).size == pytest.approx(size, rel=0.01)


@pytest.mark.parametrize("image_set", SETS.values())
def test_images_of_a_set_differ_in_uid_and_pixels(image_set: ImageSet) -> None:
    images = list(image_set.images(image_set.count))
    assert len({image.sop_instance_uid for image in images}) == image_set.count
    assert len({image.noise_at for image in images}) == image_set.count


@pytest.mark.parametrize("image_set", [CT, SMALL, MIXED, SMALL_MIXED])
def test_all_messages_of_a_set_are_equally_long_for_the_receiver_that_reads_none(
    image_set: ImageSet,
) -> None:
    lengths = {
        sum(len(pdu) for pdu in message(image, 1, RAW_MAX_PDU))
        for image in image_set.images(ALL_TEMPLATES)
    }
    assert len(lengths) == 1


def test_an_image_is_as_long_as_it_says_also_where_the_noise_begins_again() -> None:
    image = next(LARGE.images(1))
    assert sum(len(chunk) for chunk in image.chunks()) == image.size
    length = struct.unpack_from("<I", image.header, len(image.header) - 4)
    assert length == (image.pixel_bytes,)


def test_the_expected_digest_is_that_of_the_bytes_sent() -> None:
    image = next(SMALL.images(1))
    whole = b"".join(image.chunks())
    assert image.digest() == hashlib.sha256(whole).hexdigest() == digest(iter([whole]))
    assert SMALL.digests(1) == {image.digest()}
