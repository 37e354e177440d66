"""What the pipeline reads: S3's event, a manifest, a job's result files, each for one instance."""

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from chalicelib.stores.files import StoredObject

from bench.pipeline.receiver import ClosedBatch
from contract.checksums import Checksum
from contract.keys import InstanceKey
from contract.manifest import Manifest, ManifestInstance, Source
from local.healthimaging.options import EmulatorOptions
from local.healthimaging.records import ImportJob, job_output_uri, split_s3_uri
from local.healthimaging.results import Imported, result_files

CHECKSUM = Checksum.crc64nvme(0)
_OPTIONS = EmulatorOptions()


def s3_event(bucket: str, key: str) -> str:
    """The body of the queue's message."""
    record = {
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": bucket}, "object": {"key": key}},
    }
    return json.dumps({"Records": [record]})


def manifest_of(batch: ClosedBatch, number: int, now: datetime, instances: int = 1) -> Manifest:
    """A batch's manifest with the first of its instances, in a study and series of its own."""
    study = f"2.25.{number}"
    source = Source(batch.calling_ae_title, "STORESCP", (), ())
    listed = tuple(_instance(batch, study, f"{study}.1.{each}") for each in range(1, instances + 1))
    return Manifest(batch.batch_id, now, batch.reason, source, None, listed)


def _instance(batch: ClosedBatch, study: str, uid: str) -> ManifestInstance:
    return ManifestInstance(
        key=str(InstanceKey(batch.batch_id, study, f"{study}.1", uid)),
        size=batch.size // batch.files,
        checksum=CHECKSUM,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        sop_instance_uid=uid,
        series_instance_uid=f"{study}.1",
        study_instance_uid=study,
        study_date="20261123",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
    )


def result_bodies(
    job_id: str, params: dict[str, Any], inputs: Iterable[StoredObject]
) -> dict[str, bytes]:
    """The files HealthImaging writes at a job's end, by their keys: the emulator's own."""
    uri = job_output_uri(params["outputS3Uri"], params["datastoreId"], job_id)
    job = ImportJob(
        job_id=job_id,
        job_name=params["jobName"],
        datastore_id=params["datastoreId"],
        data_access_role_arn=params["dataAccessRoleArn"],
        input_s3_uri=params["inputS3Uri"],
        output_s3_uri=uri,
        input_owner_account_id=None,
        submitted_at=0.0,
    )
    outcomes = [Imported(each.key, job_id, 1, is_primary=True, warnings=()) for each in inputs]
    _, folder = split_s3_uri(uri)
    files = result_files(job, outcomes, _OPTIONS)
    return {f"{folder}{path}": body for path, body in files.items()}
