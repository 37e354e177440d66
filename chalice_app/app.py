"""What AWS calls: the queue's consumer, the state machine's functions, and the REST API.

Chalice imports this module on the machine that packages it: nothing here needs AWS or a setting.
"""

import json
import os
from typing import Any

from chalice.app import Chalice, CloudWatchEvent, IAMAuthorizer, Rate, SQSEvent
from chalicelib import wiring
from chalicelib.api.problems import answer_problems, raises_problems
from chalicelib.api.routes import ROUTES, Call, Route, answer
from chalicelib.events.announce import announce
from chalicelib.imports.deletion import image_set_noticed
from chalicelib.imports.execution import Execution
from chalicelib.imports.failure import record_failure as record_import_failure
from chalicelib.imports.notice import import_noticed
from chalicelib.imports.start import start_import
from chalicelib.imports.status import check_status as check_import
from chalicelib.intake.dispatch import dispatch
from chalicelib.intake.dropbox import collect
from chalicelib.intake.recovery import recover_batches as recover_open_batches
from chalicelib.intake.trigger import Message, trigger_imports
from chalicelib.operations import setup
from chalicelib.operations.expire import expire
from chalicelib.operations.reconcile import metrics
from chalicelib.operations.reconcile import reconcile as reconcile_objects
from chalicelib.settings import IntakeSettings

app = Chalice(app_name="dicom-store-scp")
app.register_middleware(answer_problems, "http")
_authorizer = IAMAuthorizer()
_QUEUE = os.environ.get("IMPORT_QUEUE_NAME") or "dicom-import"
# Each invocation closes its batches. One at a time also dispatches, and one collects the dropbox,
# since each has a lock. Five close more than five batches a second, where HealthImaging starts one
# import. Without a limit, a flood of events would take a whole account of small quota. SQS asks for
# 2 at least.
# https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html
_AT_ONCE = 5
_JOB_ENDED = {
    "source": ["aws.medical-imaging"],
    "detail-type": ["Import Job Completed", "Import Job Failed"],
}
_IMAGE_SET_DELETED = {"source": ["aws.medical-imaging"], "detail-type": ["Image Set Deleted"]}
Json = dict[str, Any]


@app.on_sqs_message(queue=_QUEUE, batch_size=5, name="trigger_import", maximum_concurrency=_AT_ONCE)
def trigger_import(event: SQSEvent) -> None:
    """Manifest events from the queue close batches, and start those whose turn it is."""
    messages = [
        Message(record.receipt_handle, record.body, record.to_dict().get("messageId", ""))
        for record in event
    ]
    trigger_imports(messages, wiring.intake(wiring.deadline(event.context)), wiring.queue())


@app.schedule(Rate(1, unit=Rate.MINUTES), name="dispatch_imports")
def dispatch_imports(event: CloudWatchEvent) -> None:
    """Batches that had to wait start when it is their turn."""
    dispatch(wiring.desk(wiring.deadline(event.context)))


@app.schedule(Rate(1, unit=Rate.MINUTES), name="recover_batches")
def recover_batches(event: CloudWatchEvent) -> None:
    """Batches whose receiver died are closed for it."""
    recover_open_batches(wiring.recovery(wiring.deadline(event.context)))


@app.schedule(Rate(1, unit=Rate.MINUTES), name="collect_dropbox")
def collect_dropbox(event: CloudWatchEvent) -> None:
    """What lies in the dropbox, though its event was lost or could not be followed."""
    collect(wiring.dropbox(wiring.deadline(event.context)))


@app.schedule(Rate(1, unit=Rate.HOURS), name="reconcile")
def reconcile(event: CloudWatchEvent) -> None:
    """Objects that nobody accounts for become a report and a metric."""
    report = reconcile_objects(setup.reconciliation(wiring.deadline(event.context)))
    # A line of CloudWatch's embedded metric format stands alone.
    print(json.dumps(metrics(report, setup.metric_namespace())))


@app.schedule(Rate(1, unit=Rate.MINUTES), name="announce_events")
def announce_events(event: CloudWatchEvent) -> None:
    """What has happened is told on EventBridge."""
    announce(wiring.announcer(wiring.deadline(event.context)))


@app.schedule(Rate(1, unit=Rate.HOURS), name="expire_objects")
def expire_objects(event: CloudWatchEvent) -> None:
    """Objects of instances imported long ago are deleted."""
    expire(setup.expiry(wiring.deadline(event.context)))


@app.on_cw_event(_JOB_ENDED, name="on_import_event")
def on_import_event(event: CloudWatchEvent) -> None:
    """HealthImaging says that a job has ended."""
    bucket = wiring.settings(IntakeSettings).dicom_bucket
    import_noticed(event.detail, bucket, wiring.import_context())


@app.on_cw_event(_IMAGE_SET_DELETED, name="on_image_set_event")
def on_image_set_event(event: CloudWatchEvent) -> None:
    """HealthImaging says that an image set was deleted."""
    image_set_noticed(event.detail, wiring.import_context())


@app.lambda_function(name="start_import_job")
def start_import_job(event: Json, context: object) -> Json:
    """StartImportJob: the execution's ``job`` member."""
    del context
    return start_import(Execution.parse(event), wiring.import_context())


@app.lambda_function(name="check_status")
def check_status(event: Json, context: object) -> Json:
    """CheckStatus: the execution's ``job`` member, updated."""
    del context
    job_id = event["job"]["jobId"]
    return check_import(Execution.parse(event), job_id, wiring.import_context())


@app.lambda_function(name="record_failure")
def record_failure(event: Json, context: object) -> Json:
    """RecordFailure: the reason, in job, batch and instances."""
    del context
    return dict(record_import_failure(event, wiring.import_context()))


def _serve(route: Route) -> None:
    @raises_problems
    def view(**path: str) -> Json:
        request = app.current_request
        query = dict(request.query_params or {}) if request else {}
        body = request.raw_body if request else b""
        raw = body.encode() if isinstance(body, str) else body
        return answer(route, Call(path, query, raw))

    authorizer = None if route.is_public else _authorizer
    options = {"methods": [route.method], "content_types": ["*/*"], "authorizer": authorizer}
    app.route(route.path, **options)(view)


for each in ROUTES:
    _serve(each)
