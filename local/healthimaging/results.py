"""The result files of an import job, from what became of each file.

https://docs.aws.amazon.com/healthimaging/latest/devguide/understanding-import-jobs.html
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from local.healthimaging.file_warnings import FileWarning
from local.healthimaging.options import EmulatorOptions, InputFileForm
from local.healthimaging.records import ImportJob, split_s3_uri

VALIDATION_EXCEPTION = "ValidationException"
SERVER_EXCEPTION = "InternalServerException"

MANIFEST = "job-output-manifest.json"
SUCCESS_FOLDER, FAILURE_FOLDER, WARNING_FOLDER = "SUCCESS/", "FAILURE/", "WARNING/"


@dataclass(frozen=True, slots=True)
class Imported:
    """A file that is in an image set now. ``input_file`` is its key in the input bucket."""

    input_file: str
    image_set_id: str
    image_set_version: int
    is_primary: bool
    warnings: tuple[FileWarning, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """A file that is not."""

    input_file: str
    exception_type: str
    message: str


Outcome = Imported | Failed
# Each file's bytes, by its path under the job's output folder.
ResultFiles = Mapping[str, bytes]


def result_files(
    job: ImportJob, outcomes: Sequence[Outcome], options: EmulatorOptions
) -> ResultFiles:
    """Every result file of a job."""
    named = [
        replace(each, input_file=_input_file(job, each.input_file, options.input_file_form))
        for each in outcomes
    ]
    imported = [each for each in named if isinstance(each, Imported)]
    failed = [each for each in named if isinstance(each, Failed)]
    warned = [each for each in imported if each.warnings]
    succeeded = (
        imported
        if options.warned_files_in_success
        else [each for each in imported if not each.warnings]
    )
    tables = {
        f"{SUCCESS_FOLDER}success.ndjson": [_success(each, options) for each in succeeded],
        f"{FAILURE_FOLDER}failure.ndjson": [_failure(each) for each in failed],
        f"{WARNING_FOLDER}warning.ndjson": [_warning(each, options) for each in warned],
    }
    files = {
        MANIFEST: json.dumps({"jobSummary": _summary(job, imported, failed, options)}).encode()
    }
    for path, rows in tables.items():
        if rows or options.empty_result_files:
            files[path] = "".join(f"{json.dumps(row)}\n" for row in rows).encode()
    return files


def split_by_time(files: ResultFiles, options: EmulatorOptions) -> tuple[ResultFiles, ResultFiles]:
    """The files that are there when the job is COMPLETED, and those that come later."""
    if not options.manifest_lag_seconds:
        return files, {}
    if not options.summary_ahead:
        return {}, files
    late = {path: body for path, body in files.items() if path != MANIFEST}
    return {MANIFEST: files[MANIFEST]}, late


def _input_file(job: ImportJob, key: str, form: InputFileForm) -> str:
    bucket, prefix = split_s3_uri(job.input_s3_uri)
    match form:
        case InputFileForm.KEY:
            return key
        case InputFileForm.URI:
            return f"s3://{bucket}/{key}"
        case InputFileForm.BUCKET:
            return f"{bucket}/{key}"
        case InputFileForm.SLASH:
            return f"/{key}"
        case InputFileForm.RELATIVE:
            return key.removeprefix(prefix).removeprefix("/")


def _summary(
    job: ImportJob,
    imported: Sequence[Imported],
    failed: Sequence[Failed],
    options: EmulatorOptions,
) -> Mapping[str, Any]:
    image_sets = list(_image_sets(imported, options))
    server_errors = sum(each.exception_type == SERVER_EXCEPTION for each in failed)
    warnings_uri = {"warningsOutputS3Uri": f"{job.output_s3_uri}{WARNING_FOLDER}"}
    return {
        "jobId": job.job_id,
        "datastoreId": job.datastore_id,
        "inputS3Uri": job.input_s3_uri,
        "outputS3Uri": job.output_s3_uri,
        "successOutputS3Uri": f"{job.output_s3_uri}{SUCCESS_FOLDER}",
        "failureOutputS3Uri": f"{job.output_s3_uri}{FAILURE_FOLDER}",
        **(warnings_uri if options.warnings_output_key else {}),
        "numberOfScannedFiles": len(imported) + len(failed),
        "numberOfImportedFiles": len(imported),
        "numberOfFilesWithCustomerError": len(failed) - server_errors,
        "numberOfFilesWithServerError": server_errors,
        "numberOfGeneratedImageSets": len(image_sets),
        "imageSetsSummary": image_sets,
    }


def _image_sets(
    imported: Iterable[Imported], options: EmulatorOptions
) -> Iterable[Mapping[str, Any]]:
    matched = Counter(
        (each.image_set_id, each.image_set_version, each.is_primary) for each in imported
    )
    for (image_set_id, version, is_primary), count in matched.items():
        keys = {"imageSetVersion": version, "isPrimary": is_primary}
        yield {
            "imageSetId": image_set_id,
            **(keys if options.image_set_keys else {}),
            "numberOfMatchedSOPInstances": count,
        }


def _success(outcome: Imported, options: EmulatorOptions) -> Mapping[str, Any]:
    response: dict[str, Any] = {"imageSetId": outcome.image_set_id}
    if options.image_set_keys:
        response["isPrimary"] = outcome.is_primary
    return {"inputFile": outcome.input_file, "importResponse": response}


def _failure(outcome: Failed) -> Mapping[str, Any]:
    exception = {"exceptionType": outcome.exception_type, "message": outcome.message}
    return {"inputFile": outcome.input_file, "exception": exception}


def _warning(outcome: Imported, options: EmulatorOptions) -> Mapping[str, Any]:
    response: dict[str, Any] = {"imageSetId": outcome.image_set_id}
    if options.image_set_keys:
        response["imageSetVersion"] = outcome.image_set_version
        response["isPrimary"] = outcome.is_primary
    response["warnings"] = [
        {
            "warning_reason_code": each.code,
            "type": each.name if options.upper_snake_warning_types else each.camel_case,
            "message": each.message,
        }
        for each in outcome.warnings
    ]
    return {"inputFile": outcome.input_file, "importResponse": response}
