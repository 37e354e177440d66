"""Files as they are: what is acknowledged is kept byte for byte, and accounted for."""

import hashlib
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import boto3
import data_store  # type: ignore[import-untyped]  # it ships no types
import pydicom
import pytest

from contract.keys import InstanceKey
from contract.uids import is_uid
from local import names, samples
from local.cloud import Cloud
from local.files import Sample
from local.follow import RestClient
from tests.pipeline.local.support import data_set_of, sample_data_set, send_all, settle

# Odd files are what is wanted here.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

# A file in each transfer syntax, and of each odd kind.
REPRESENTATIVE = {
    "CT_small.dcm": "explicit little endian",
    "rtplan.dcm": "implicit little endian; the file meta names another instance than the data set",
    "rtplan_truncated.dcm": "the same instance with other bytes, which end in the middle",
    "ExplVR_BigEnd.dcm": "big endian",
    "image_dfl.dcm": "deflated",
    "color3d_jpeg_baseline.dcm": "JPEG baseline; 6 MB, multi-frame",
    "JPEG-lossy.dcm": "JPEG extended",
    "JPEG-LL.dcm": "JPEG lossless",
    "MR_small_jpeg_ls_lossless.dcm": "JPEG-LS lossless",
    "JPEGLSNearLossless_08.dcm": "JPEG-LS lossy; no study or series",
    "MR2_J2KR.dcm": "JPEG 2000 lossless",
    "JPEG2000-embedded-sequence-delimiter.dcm": "JPEG 2000",
    "rtdose_rle_1frame.dcm": "RLE",
    "badVR.dcm": "the same instance as that before, with a value representation that is none",
    "bad_sequence.dcm": "a sequence that does not end, and a study UID that is none",
    "UN_sequence.dcm": "a sequence of unknown representation; no study or series",
    "MR_truncated.dcm": "pixel data too short",
    "no_meta_group_length.dcm": "file meta information without its length; no study or series",
    "test-SR.dcm": "no pixels",
}


def storable_files() -> list[Sample]:
    roots = [Path(pydicom.__file__).parent / "data/test_files", Path(data_store.__file__).parent]
    return samples.read([path for root in roots for path in samples.files_below(root)])


def representative_files() -> list[Sample]:
    return [each for each in storable_files() if each.path.name in REPRESENTATIVE]


def test_the_representative_files_have_every_transfer_syntax_there_is() -> None:
    chosen = representative_files()
    assert {each.path.name for each in chosen} == REPRESENTATIVE.keys()
    syntaxes = {each.transfer_syntax_uid for each in chosen}
    assert syntaxes == {each.transfer_syntax_uid for each in storable_files()}
    assert {each.is_consistent for each in chosen} == {True, False}
    assert {has_what_the_header_must_tell(each) for each in chosen} == {True, False}


def test_representative_files_are_kept_byte_for_byte_and_accounted_for(
    cloud: Cloud, rest: RestClient
) -> None:
    assert len(kept_and_accounted_for(cloud, rest, representative_files())) >= 15


@pytest.mark.exhaustive
@pytest.mark.timeout(600)
@pytest.mark.no_cover  # moto takes half a second a study, and twice that under the tracer
def test_every_storable_file_of_pydicom_is_kept_byte_for_byte_and_accounted_for(
    cloud: Cloud, rest: RestClient
) -> None:
    assert len(kept_and_accounted_for(cloud, rest, storable_files())) > 150


def kept_and_accounted_for(cloud: Cloud, rest: RestClient, chosen: list[Sample]) -> list[Sample]:
    """Send the files; returns those acknowledged."""
    sent = send_all(cloud, chosen)
    refused = [each.sample for each in sent if not each.acknowledged]
    assert [each.path.name for each in refused if has_what_the_header_must_tell(each)] == []
    acknowledged = [each.sample for each in sent if each.acknowledged]
    stored = stored_data_sets()
    for sample in acknowledged:
        digest = hashlib.sha256(sample_data_set(sample.path)).hexdigest()
        assert digest in stored[sample.sop_instance_uid], sample.path.name
    settle(rest, {each.sop_instance_uid for each in acknowledged})
    return acknowledged


def has_what_the_header_must_tell(sample: Sample) -> bool:
    """Whether the data set itself names its study and series, and is what its file meta says."""
    data_set = pydicom.dcmread(sample.path, stop_before_pixels=True)
    named = all(
        is_uid(str(data_set.get(name, "")))
        for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    )
    return named and (data_set.get("SOPClassUID"), data_set.get("SOPInstanceUID")) == (
        sample.sop_class_uid,
        sample.sop_instance_uid,
    )


def stored_data_sets() -> dict[str, set[str]]:
    """Digests, by SOP Instance UID."""
    stored = defaultdict(set)
    bucket = boto3.resource("s3").Bucket(names.DICOM_BUCKET)
    for each in bucket.objects.filter(Prefix="instances/"):
        uid = InstanceKey.parse(each.key).sop_instance_uid
        # An exact duplicate may leave its batch meanwhile, before the import.
        with suppress(bucket.meta.client.exceptions.NoSuchKey):
            stored[uid].add(hashlib.sha256(data_set_of(each.get()["Body"].read())).hexdigest())
    assert stored
    return stored
