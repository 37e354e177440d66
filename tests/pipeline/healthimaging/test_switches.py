"""Each fault, and each point on which AWS's pages are silent, that EmulatorOptions can switch."""

import json
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.healthimaging import Emulator, EmulatorOptions, InputFileForm, QuotaProfile
from tests.pipeline.healthimaging.caller import FAST, Caller, refusal


def status(aws: Caller, datastore: str, job: dict[str, Any]) -> str:
    answer = aws("get_dicom_import_job", datastoreId=datastore, jobId=job["jobId"])
    return str(answer["jobProperties"]["jobStatus"])


def test_a_client_token_is_remembered_for_ever_unless_it_is_told_how_long(
    aws: Caller, datastore: str, emulator: Emulator
) -> None:
    first = aws.start(datastore, "in/", "token")
    aws.clock.advance(30 * 24 * 3600)
    assert aws.start(datastore, "in/", "token")["jobId"] == first["jobId"]
    emulator.configure(replace(FAST, client_token_seconds=60.0))
    second = aws.start(datastore, "other/", "token")
    assert second["jobId"] != first["jobId"]
    aws.clock.advance(59)
    assert aws.start(datastore, "other/", "token")["jobId"] == second["jobId"]
    aws.clock.advance(1)
    assert aws.start(datastore, "other/", "token")["jobId"] != second["jobId"]


def test_a_start_whose_answer_is_lost_is_carried_out(
    aws: Caller, datastore: str, emulator: Emulator
) -> None:
    emulator.configure(replace(FAST, lost_answers=2))
    for token in ("one", "one"):
        with pytest.raises(ClientError) as error:
            aws.start(datastore, "in/", token)
        assert refusal(error) == ("InternalServerException", 500)
    (job,) = aws("list_dicom_import_jobs", datastoreId=datastore)["jobSummaries"]
    assert aws.start(datastore, "in/", "one")["jobId"] == job["jobId"]
    aws.start(datastore, "in/", "two")


def test_a_start_that_is_refused_loses_no_answer(
    aws: Caller, datastore: str, emulator: Emulator
) -> None:
    emulator.configure(replace(FAST, lost_answers=1))
    with pytest.raises(ClientError) as refused:
        aws.start("f" * 32, "in/", "one")
    assert refusal(refused) == ("ResourceNotFoundException", 404)
    with pytest.raises(ClientError) as lost:
        aws.start(datastore, "in/", "one")
    assert refusal(lost) == ("InternalServerException", 500)


def test_so_many_jobs_are_slow_whether_they_end_well_or_not(
    aws: Caller, datastore: str, emulator: Emulator
) -> None:
    emulator.configure(replace(FAST, slow_jobs=2, slow_seconds=100.0, failing_jobs=1))
    jobs = [aws.start(datastore, "in/", token) for token in ("fails", "slow", "quick")]
    aws.clock.advance(99)
    assert [status(aws, datastore, job) for job in jobs] == [
        "IN_PROGRESS",
        "IN_PROGRESS",
        "COMPLETED",
    ]
    aws.clock.advance(1)
    assert [status(aws, datastore, job) for job in jobs[:2]] == ["FAILED", "COMPLETED"]


def test_an_action_that_is_denied_says_so_and_the_others_go_on(
    aws: Caller, datastore: str, emulator: Emulator
) -> None:
    job = aws.start(datastore, "in/", "token")
    emulator.configure(replace(FAST, denied_actions=frozenset({"GetDICOMImportJob"})))
    with pytest.raises(ClientError, match="medical-imaging:GetDICOMImportJob") as error:
        status(aws, datastore, job)
    assert refusal(error) == ("AccessDeniedException", 403)
    assert len(aws("list_dicom_import_jobs", datastoreId=datastore)["jobSummaries"]) == 1


def test_all_actions_can_be_denied(aws: Caller, datastore: str, emulator: Emulator) -> None:
    emulator.configure(replace(FAST, denied_actions=frozenset({"*"})))
    for operation, arguments in (
        ("list_datastores", {}),
        ("delete_datastore", {"datastoreId": datastore}),
    ):
        with pytest.raises(ClientError) as error:
            aws(operation, **arguments)
        assert refusal(error) == ("AccessDeniedException", 403)
    emulator.configure(FAST)
    assert len(aws("list_datastores")["datastoreSummaries"]) == 1


def test_a_denied_call_takes_no_token_of_the_rate(
    aws: Caller, datastore: str, emulator: Emulator
) -> None:
    options = EmulatorOptions(quota_profile=QuotaProfile.Y2026)
    emulator.configure(replace(options, denied_actions=frozenset({"StartDICOMImportJob"})))
    for _ in range(3):
        with pytest.raises(ClientError) as error:
            aws.start(datastore, "in/", "token")
        assert refusal(error) == ("AccessDeniedException", 403)
    emulator.configure(options)
    aws.start(datastore, "in/", "token")
    aws.start(datastore, "in/", "token")


@pytest.mark.parametrize(
    ("form", "folder"),
    [
        (InputFileForm.KEY, "deep/in/"),
        (InputFileForm.URI, "s3://input/deep/in/"),
        (InputFileForm.BUCKET, "input/deep/in/"),
        (InputFileForm.SLASH, "/deep/in/"),
        (InputFileForm.RELATIVE, ""),
    ],
)
@pytest.mark.parametrize("prefix", ["deep/in/", "deep/in"])
def test_result_files_name_an_input_file_in_the_form_that_was_chosen(
    aws: Caller, datastore: str, emulator: Emulator, form: InputFileForm, folder: str, prefix: str
) -> None:
    emulator.configure(replace(FAST, input_file_form=form))
    aws.put("deep/in/ct.dcm", "CT_small.dcm")
    aws.s3.put_object(Bucket="input", Key="deep/in/notes.txt", Body=b"not DICOM")
    job = aws.import_all(datastore, prefix, "token")
    (imported,) = map(json.loads, aws.result(job, "SUCCESS/success.ndjson").splitlines())
    (failed,) = map(json.loads, aws.result(job, "FAILURE/failure.ndjson").splitlines())
    assert imported["inputFile"] == f"{folder}ct.dcm"
    assert failed["inputFile"] == f"{folder}notes.txt"


@pytest.mark.parametrize(
    ("summary_ahead", "at_completed"),
    [(False, []), (True, ["job-output-manifest.json"])],
)
def test_results_come_late_and_the_summary_may_come_first(
    aws: Caller,
    datastore: str,
    emulator: Emulator,
    summary_ahead: bool,
    at_completed: list[str],
) -> None:
    emulator.configure(replace(FAST, manifest_lag_seconds=60.0, summary_ahead=summary_ahead))
    aws.put("in/ct.dcm", "CT_small.dcm")
    job = aws.import_all(datastore, "in/", "token")
    assert results(aws, job) == at_completed
    aws.clock.advance(60)
    assert results(aws, job) == [
        "FAILURE/failure.ndjson",
        "SUCCESS/success.ndjson",
        "WARNING/warning.ndjson",
        "job-output-manifest.json",
    ]


def results(aws: Caller, job: dict[str, Any]) -> list[str]:
    folder = job["outputS3Uri"].removeprefix("s3://output/")
    listed = aws.s3.list_objects_v2(Bucket="output", Prefix=folder).get("Contents", [])
    return [each["Key"].removeprefix(folder) for each in listed]
