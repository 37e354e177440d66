"""What a viewer's rule and queue get when studies are sent."""

import json
from pathlib import Path
from typing import Any

import boto3
import pydicom
import pytest
from chalicelib.events.event import SOURCE, EventType
from chalicelib.events.schemas import SCHEMAS

from local import names
from local.cloud import Cloud
from local.events import received
from local.follow import RestClient
from local.resources import lifecycle
from tests.pipeline.chalicelib.schema_check import complaints
from tests.pipeline.local.support import fresh, send_all, settle


def test_a_study_and_a_file_that_is_none_are_told_of(
    cloud: Cloud, rest: RestClient, tmp_path: Path
) -> None:
    slices = fresh(tmp_path, "CT_small.dcm", count=3)
    study = str(pydicom.dcmread(slices[0].path, stop_before_pixels=True).StudyInstanceUID)
    sent = send_all(cloud, slices)
    boto3.client("s3").put_object(
        Bucket=names.DICOM_BUCKET, Key="dropbox/DOE JOHN.txt", Body=b"DOE^JOHN"
    )
    settle(rest, {each.sample.sop_instance_uid for each in sent})
    (job,) = (each for each in rest.jobs() if each.get("studyInstanceUID") == study)
    told: dict[str, Any] = {}
    for event in received(patience_seconds=45):
        kind = EventType(event["detail-type"])
        assert event["source"] == SOURCE
        assert list(complaints(event["detail"], SCHEMAS[kind], {})) == []
        assert "DOE" not in json.dumps(event)
        if is_of(event["detail"], study):  # and of no other test
            assert kind not in told, "told twice"
            told[kind] = event["detail"]
            if len(told) == 3:
                break
    imported, quiet = told[EventType.BATCH_IMPORTED], told[EventType.STUDY_QUIET]
    assert (imported["studyInstanceUIDs"], imported["importedCount"]) == ([study], 3)
    assert imported["batchId"] == job["batchId"]
    assert imported["imageSetIds"] == job["imageSetIds"]
    assert quiet["studyInstanceUID"] == study
    assert quiet["batchIds"] == [imported["batchId"]]
    assert told[EventType.INSTANCE_QUARANTINED]["reason"] == "not-part10"


def is_of(detail: dict[str, Any], study: str) -> bool:
    """Whether an event is of this study, or of a dropped file that is no DICOM."""
    studies = {*detail.get("studyInstanceUIDs", []), detail.get("studyInstanceUID")}
    return study in studies or detail.get("reason") == "not-part10"


@pytest.mark.usefixtures("cloud")
@pytest.mark.parametrize("bucket", lifecycle())
def test_the_buckets_have_their_lifecycle_rules(bucket: str) -> None:
    found = boto3.client("s3").get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert found == lifecycle()[bucket]
