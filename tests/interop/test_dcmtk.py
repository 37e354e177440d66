"""DCMTK's own tools as the modality, against the real Store SCP process in the local cloud."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from pydicom.data import get_testdata_file

from contract.keys import InstanceKey
from local import names
from local.cloud import Cloud, CloudOptions
from local.samples import read

FILES = ("CT_small.dcm", "MR_small.dcm", "rtplan.dcm", "ExplVR_BigEnd.dcm")
# storescu's option for the transfer syntax it is to propose, and a file that is in it.
COMPRESSED = {
    "-xs": "SC_rgb_jpeg_gdcm.dcm",
    "-xv": "examples_jpeg2k.dcm",
    "-xr": "MR_small_RLE.dcm",
    "-xd": "image_dfl.dcm",
    "-xy": "examples_ybr_color.dcm",
}


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with Cloud(CloudOptions(receiver_environment={"REQUIRE_CALLED_AE_TITLE": "true"})) as running:
        yield running


def path(name: str) -> str:
    return str(get_testdata_file(name, download=False))


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def stored_uids() -> set[str]:
    bucket = boto3.resource("s3").Bucket(names.DICOM_BUCKET)
    found = bucket.objects.filter(Prefix="instances/")
    return {InstanceKey.parse(each.key).sop_instance_uid for each in found}


def uid_of(name: str) -> str:
    return read([Path(path(name))])[0].sop_instance_uid


def test_echoscu_is_answered(cloud: Cloud) -> None:
    done = run("echoscu", "-aec", "STORESCP", "127.0.0.1", str(cloud.dicom_port))
    assert done.returncode == 0, done.stderr


def test_echoscu_to_another_ae_title_is_rejected_with_the_reason(cloud: Cloud) -> None:
    done = run("echoscu", "-v", "-aec", "SOMEBODY", "127.0.0.1", str(cloud.dicom_port))
    assert done.returncode != 0
    assert "Called AE Title Not Recognized" in done.stdout + done.stderr


def test_storescu_sends_several_classes_on_one_association(cloud: Cloud) -> None:
    target = ("-aec", "STORESCP", "127.0.0.1", str(cloud.dicom_port))
    done = run("storescu", "-v", *target, *map(path, FILES))
    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).count("Received Store Response (Success)") == len(FILES)
    assert {uid_of(name) for name in FILES} <= stored_uids()


@pytest.mark.parametrize(("option", "name"), COMPRESSED.items())
def test_storescu_sends_compressed_images_as_they_are(cloud: Cloud, option: str, name: str) -> None:
    target = ("-aec", "STORESCP", "127.0.0.1", str(cloud.dicom_port))
    done = run("storescu", "-v", option, *target, path(name))
    assert done.returncode == 0, done.stderr
    assert uid_of(name) in stored_uids()


def test_dcmsend_sends_a_folder_and_reports_no_failure(cloud: Cloud, tmp_path: Path) -> None:
    folder = Path(path("CT_small.dcm")).parent / "dicomdirtests" / "98892003"
    report = tmp_path / "report.txt"
    target = ("-aec", "STORESCP", "127.0.0.1", str(cloud.dicom_port))
    done = run("dcmsend", "+sd", "+r", "+crf", str(report), *target, str(folder))
    assert done.returncode == 0, done.stderr
    sent = len([each for each in folder.rglob("*") if each.is_file()])
    assert report.read_text().count("0x0000 (Success") == sent, report.read_text()


def test_an_aborting_storescu_leaves_the_next_one_served(cloud: Cloud) -> None:
    target = ("-aec", "STORESCP", "127.0.0.1", str(cloud.dicom_port))
    assert run("storescu", "--abort", *target, path("CT_small.dcm")).returncode == 0
    assert run("storescu", *target, path("MR_small.dcm")).returncode == 0
