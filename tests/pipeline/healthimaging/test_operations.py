"""Every operation of the emulator, called by boto3 and held against botocore's own shapes."""

import gzip
import json
from dataclasses import replace
from typing import Any

import pydicom
import pytest
from botocore.exceptions import ClientError
from pydicom.data import get_testdata_file

from local.healthimaging import Emulator, EmulatorOptions, QuotaProfile
from tests.pipeline.healthimaging.caller import FAST, Caller, refusal


def test_a_data_store_lives_is_tagged_and_goes(aws: Caller, datastore: str) -> None:
    properties = aws("get_datastore", datastoreId=datastore)["datastoreProperties"]
    assert properties["datastoreStatus"] == "ACTIVE"
    arn = properties["datastoreArn"]
    aws("tag_resource", resourceArn=arn, tags={"a": "1", "b": "2"})
    aws("untag_resource", resourceArn=arn, tagKeys=["a"])
    assert aws("list_tags_for_resource", resourceArn=arn)["tags"] == {"b": "2"}
    assert len(aws("list_datastores")["datastoreSummaries"]) == 1
    aws("delete_datastore", datastoreId=datastore)


def test_an_import_groups_instances_and_writes_its_result_files(
    aws: Caller, datastore: str
) -> None:
    aws.put("in/ct.dcm", "CT_small.dcm")
    aws.put("in/mr.dcm", "MR_small.dcm")
    aws.s3.put_object(Bucket="input", Key="in/notes.txt", Body=b"not DICOM")
    job = aws.import_all(datastore, "in/", "first")
    assert job["jobStatus"] == "COMPLETED"
    assert job["outputS3Uri"] == f"s3://output/results/{datastore}-DicomImport-{job['jobId']}/"
    summary = json.loads(aws.result(job, "job-output-manifest.json"))["jobSummary"]
    assert summary["numberOfScannedFiles"] == 3
    assert summary["numberOfImportedFiles"] == 2
    assert summary["numberOfFilesWithCustomerError"] == 1
    assert summary["numberOfGeneratedImageSets"] == 2
    lines = aws.result(job, "SUCCESS/success.ndjson").splitlines()
    assert {json.loads(line)["inputFile"] for line in lines} == {"in/ct.dcm", "in/mr.dcm"}
    (failure,) = map(json.loads, aws.result(job, "FAILURE/failure.ndjson").splitlines())
    assert failure["inputFile"] == "in/notes.txt"
    assert failure["exception"]["exceptionType"] == "ValidationException"


def test_image_sets_are_found_read_and_versioned(aws: Caller, datastore: str) -> None:
    aws.put("in/ct.dcm", "CT_small.dcm")
    aws.import_all(datastore, "in/", "first")
    aws.import_all(datastore, "in/", "again")
    patient = str(pydicom.dcmread(str(get_testdata_file("CT_small.dcm"))).PatientID)
    criteria = {"filters": [{"values": [{"DICOMPatientId": patient}], "operator": "EQUAL"}]}
    found = aws("search_image_sets", datastoreId=datastore, searchCriteria=criteria)
    (summary,) = found["imageSetsMetadataSummaries"]
    where = {"datastoreId": datastore, "imageSetId": summary["imageSetId"]}
    assert aws("get_image_set", **where)["versionId"] == "2"
    versions = aws("list_image_set_versions", **where)["imageSetPropertiesList"]
    assert [each["versionId"] for each in versions] == ["1", "2"]
    blob = aws("get_image_set_metadata", **where)["imageSetMetadataBlob"].read()
    document = json.loads(gzip.decompress(blob))
    (series,) = document["Study"]["Series"].values()
    (instance,) = series["Instances"].values()
    frame = instance["ImageFrames"][0]["ID"]
    pixels = aws("get_image_frame", **where, imageFrameInformation={"imageFrameId": frame})
    expected = pydicom.dcmread(str(get_testdata_file("CT_small.dcm"))).PixelData
    assert pixels["imageFrameBlob"].read() == expected


def test_a_client_token_starts_one_job_and_refuses_another_body(
    aws: Caller, datastore: str
) -> None:
    first = aws.start(datastore, "in/", "token")
    assert aws.start(datastore, "in/", "token")["jobId"] == first["jobId"]
    with pytest.raises(ClientError) as error:
        aws.start(datastore, "other/", "token")
    assert refusal(error) == ("ConflictException", 409)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("dataAccessRoleArn", "arn:aws:iam::123456789012:user/somebody"),
        ("inputS3Uri", "https://input/in/"),
        ("jobName", "a name with spaces"),
        ("clientToken", "a/b"),
        ("outputS3Uri", "s3://O"),
    ],
)
def test_a_member_that_breaks_its_pattern_is_named(
    aws: Caller, datastore: str, member: str, value: str
) -> None:
    with pytest.raises(ClientError, match=member) as error:
        aws.start(datastore, "in/", "t1", **{member: value})
    assert refusal(error) == ("ValidationException", 400)


def test_what_does_not_exist_is_a_404(aws: Caller, datastore: str) -> None:
    with pytest.raises(ClientError) as error:
        aws("get_dicom_import_job", datastoreId=datastore, jobId="0" * 32)
    assert refusal(error) == ("ResourceNotFoundException", 404)
    with pytest.raises(ClientError) as error:
        aws("get_datastore", datastoreId="f" * 32)
    assert refusal(error) == ("ResourceNotFoundException", 404)


def test_starts_beyond_the_published_rate_are_throttled(
    aws: Caller, datastore: str, emulator: Emulator
) -> None:
    emulator.configure(EmulatorOptions(quota_profile=QuotaProfile.Y2026, seconds_per_job=0.0))

    def burst() -> None:
        for number in range(8):  # one a second, two at once
            aws.start(datastore, "in/", f"t{number}")

    with pytest.raises(ClientError) as error:
        burst()
    assert refusal(error) == ("ThrottlingException", 429)


def test_jobs_are_listed_page_by_page(aws: Caller, datastore: str, emulator: Emulator) -> None:
    emulator.configure(EmulatorOptions(quota_profile=QuotaProfile.NONE, seconds_per_job=60))
    for number in range(3):
        aws.start(datastore, "in/", f"n{number}")
    listed = aws("list_dicom_import_jobs", datastoreId=datastore, maxResults=2)
    assert len(listed["jobSummaries"]) == 2
    rest = aws("list_dicom_import_jobs", datastoreId=datastore, nextToken=listed["nextToken"])
    assert len(rest["jobSummaries"]) == 1


def test_jobs_are_listed_by_age_and_by_status(
    aws: Caller, datastore: str, emulator: Emulator
) -> None:
    emulator.configure(replace(FAST, failing_jobs=1))
    aws.import_all(datastore, "in/", "failed")
    for number in range(3):
        aws.import_all(datastore, "in/", f"done{number}")
    emulator.configure(replace(FAST, seconds_per_job=60.0))
    aws.start(datastore, "in/", "running")
    aws.clock.advance(1)

    def listed(**narrowed: Any) -> list[str]:
        pages = aws.client.get_paginator("list_dicom_import_jobs").paginate(
            datastoreId=datastore, PaginationConfig={"PageSize": 2}, **narrowed
        )
        return [job["jobName"] for page in pages for job in page["jobSummaries"]]

    assert listed() == ["failed", "done0", "done1", "done2", "running"]
    assert listed(jobStatus="COMPLETED") == ["done0", "done1", "done2"]
    assert listed(jobStatus="FAILED") == ["failed"]
    assert listed(jobStatus="IN_PROGRESS") == ["running"]
    assert listed(jobStatus="SUBMITTED") == []


@pytest.mark.parametrize("storage_class", ["GLACIER", "DEEP_ARCHIVE"])
def test_an_archived_object_is_not_imported_until_it_is_restored(
    aws: Caller, datastore: str, storage_class: str
) -> None:
    aws.put("in/ct.dcm", "CT_small.dcm", storage_class)
    aws.put("in/mr.dcm", "MR_small.dcm")
    job = aws.import_all(datastore, "in/", "archived")
    assert job["jobStatus"] == "COMPLETED"
    summary = json.loads(aws.result(job, "job-output-manifest.json"))["jobSummary"]
    assert (summary["numberOfImportedFiles"], summary["numberOfFilesWithServerError"]) == (1, 1)
    (failure,) = map(json.loads, aws.result(job, "FAILURE/failure.ndjson").splitlines())
    assert failure == {
        "inputFile": "in/ct.dcm",
        "exception": {"exceptionType": "InternalServerException", "message": "Object is archived"},
    }
    aws.s3.restore_object(Bucket="input", Key="in/ct.dcm", RestoreRequest={"Days": 1})
    job = aws.import_all(datastore, "in/", "restored")
    assert aws.result(job, "FAILURE/failure.ndjson") == b""


def test_an_object_in_instant_retrieval_is_imported(aws: Caller, datastore: str) -> None:
    aws.put("in/ct.dcm", "CT_small.dcm", "GLACIER_IR")
    job = aws.import_all(datastore, "in/", "cold")
    summary = json.loads(aws.result(job, "job-output-manifest.json"))["jobSummary"]
    assert summary["numberOfImportedFiles"] == 1


def test_a_prefix_with_too_many_files_fails_the_job(
    aws: Caller, datastore: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("local.healthimaging.limits.MAX_FILES", 2)
    for number in range(3):
        aws.put(f"in/{number}.dcm", "CT_small.dcm")
    job = aws.import_all(datastore, "in/", "many")
    assert job["jobStatus"] == "FAILED"
    assert "FILE_COUNTS_LIMIT" in job["message"]


def test_a_forced_failure_has_the_message_it_was_given(
    aws: Caller, datastore: str, emulator: Emulator
) -> None:
    options = EmulatorOptions(
        quota_profile=QuotaProfile.NONE,
        seconds_per_job=0.0,
        failing_jobs=1,
        failure_message="BROKE",
    )
    emulator.configure(options)
    assert aws.import_all(datastore, "in/", "one")["message"] == "BROKE"
    assert aws.import_all(datastore, "in/", "two")["jobStatus"] == "COMPLETED"


def test_an_operation_that_is_not_emulated_says_so(aws: Caller, datastore: str) -> None:
    with pytest.raises(ClientError) as error:
        aws.client.copy_image_set(
            datastoreId=datastore,
            sourceImageSetId="0" * 32,
            copyImageSetInformation={"sourceImageSet": {"latestVersionId": "1"}},
        )
    assert refusal(error)[1] == 501


def test_a_jobs_end_is_told_in_healthimagings_own_shape(
    aws: Caller, datastore: str, emulator: Emulator
) -> None:
    told: list[tuple[str, Any, str]] = []
    emulator.listen(lambda *event: told.append(event))
    aws.put("one/ct.dcm", "CT_small.dcm")
    job = aws.import_all(datastore, "one/", "good")
    emulator.configure(EmulatorOptions(quota_profile=QuotaProfile.NONE, failing_jobs=1))
    failed = aws.import_all(datastore, "one/", "bad")
    arn = aws("get_datastore", datastoreId=datastore)["datastoreProperties"]["datastoreArn"]
    (completed_type, completed, where), (failed_type, failure, _) = told
    assert (completed_type, failed_type) == ("Import Job Completed", "Import Job Failed")
    assert where == arn
    assert completed == {
        "imagingVersion": "1.0",
        "datastoreId": datastore,
        "jobId": job["jobId"],
        "jobName": "good",
        "jobStatus": "COMPLETED",
        "inputS3Uri": "s3://input/one/",
        "outputS3Uri": job["outputS3Uri"],
    }
    assert (failure["jobId"], failure["jobStatus"]) == (failed["jobId"], "FAILED")
