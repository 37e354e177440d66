"""What AWS calls: the queue's consumer, the state machine's functions, and the REST API.

Chalice imports this module on the machine that packages it: nothing here needs AWS or a setting.
"""

import os
from datetime import UTC, datetime
from typing import Any

from chalice.app import Chalice, IAMAuthorizer, SQSEvent
from chalicelib import VERSION, wiring
from chalicelib.api import resources
from chalicelib.api.problems import answer_problems, raises_problems
from chalicelib.imports.execution import Execution
from chalicelib.imports.failure import record_failure as record_import_failure
from chalicelib.imports.start import start_import
from chalicelib.imports.status import check_status as check_import
from chalicelib.intake.trigger import Message, trigger_imports
from chalicelib.settings import ApiSettings, ImportSettings, IntakeSettings

app = Chalice(app_name="dicom-store-scp")
app.register_middleware(answer_problems, "http")
_authorizer = IAMAuthorizer()
_QUEUE = os.environ.get("IMPORT_QUEUE_NAME") or "dicom-import"
Json = dict[str, Any]


@app.on_sqs_message(queue=_QUEUE, batch_size=10, name="trigger_import")
def trigger_import(event: SQSEvent) -> None:
    """Manifest events from the queue start executions."""
    messages = [Message(record.receipt_handle, record.body) for record in event]
    bucket = wiring.settings(IntakeSettings).dicom_bucket
    objects = wiring.stores().objects
    trigger_imports(messages, bucket, objects, wiring.workflow(), wiring.queue())


@app.lambda_function(name="start_import_job")
def start_import_job(event: Json, context: object) -> Json:
    """StartImportJob: the execution's ``job`` member."""
    del context
    settings, now = wiring.settings(ImportSettings), datetime.now(UTC)
    service = wiring.import_service()
    return start_import(Execution.parse(event), wiring.stores(), service, settings, now)


@app.lambda_function(name="check_status")
def check_status(event: Json, context: object) -> Json:
    """CheckStatus: the execution's ``job`` member, updated."""
    del context
    settings, now = wiring.settings(ImportSettings), datetime.now(UTC)
    execution, job_id = Execution.parse(event), event["job"]["jobId"]
    service = wiring.import_service()
    return check_import(execution, job_id, wiring.stores(), service, settings, now)


@app.lambda_function(name="record_failure")
def record_failure(event: Json, context: object) -> Json:
    """RecordFailure: the reason, in job, batch and instances."""
    del context
    settings, now = wiring.settings(ImportSettings), datetime.now(UTC)
    return dict(record_import_failure(event, wiring.stores(), settings, now))


@app.route("/jobs", authorizer=_authorizer)
@raises_problems
def list_jobs() -> Json:
    """Import jobs, newest first."""
    return resources.list_jobs(wiring.stores(), _query())


@app.route("/jobs/{job_id}", authorizer=_authorizer)
@raises_problems
def get_job(job_id: str) -> Json:
    """One import job."""
    return resources.get_job(wiring.stores(), job_id)


@app.route("/jobs/{job_id}/instances", authorizer=_authorizer)
@raises_problems
def list_job_instances(job_id: str) -> Json:
    """What became of each instance of one job."""
    bucket = wiring.settings(ApiSettings).dicom_bucket
    return resources.list_job_instances(wiring.stores(), bucket, job_id, _query())


@app.route("/studies/{study_instance_uid}", authorizer=_authorizer)
@raises_problems
def get_study(study_instance_uid: str) -> Json:
    """Is my study there?"""
    return resources.get_study(wiring.stores(), study_instance_uid)


@app.route("/health")
@raises_problems
def health() -> Json:
    """Whether the API runs; asks no other service."""
    return {"status": "ok", "version": VERSION}


def _query() -> dict[str, str]:
    request = app.current_request
    return dict(request.query_params or {}) if request else {}
