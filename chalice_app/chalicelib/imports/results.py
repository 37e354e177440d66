"""Where HealthImaging puts a job's result files, and reading them."""

from chalicelib.errors import ObjectMissing, ResultsNotReady
from chalicelib.imports.outcome import ResultFiles
from chalicelib.imports.result_lines import MAX_RESULT_BYTES
from chalicelib.stores.objects import ObjectStore


def results_folder(output_s3_uri: str, datastore_id: str, job_id: str) -> str:
    """The job's own folder, ending in ``/``.

    HealthImaging answers with either the folder or the prefix it was given: both were seen.
    """
    base = output_s3_uri.rstrip("/")
    name = f"{datastore_id}-DicomImport-{job_id}"
    return f"{base}/" if f"-DicomImport-{job_id}" in base else f"{base}/{name}/"


def read_result_files(objects: ObjectStore, folder: str) -> ResultFiles:
    """Raises ResultsNotReady while the job's summary is missing, ObjectTooLarge, ..."""
    bucket, _, prefix = folder.removeprefix("s3://").partition("/")

    def read(name: str) -> bytes:
        return objects.read(bucket, f"{prefix}{name}", MAX_RESULT_BYTES)

    def read_if_any(name: str) -> bytes:
        try:
            return read(name)
        except ObjectMissing:
            return b""

    try:
        summary = read("job-output-manifest.json")
    except ObjectMissing:
        raise ResultsNotReady("job-output-manifest.json is not there yet") from None
    return ResultFiles(
        summary,
        success=read_if_any("SUCCESS/success.ndjson"),
        failure=read_if_any("FAILURE/failure.ndjson"),
        warning=read_if_any("WARNING/warning.ndjson"),
    )
