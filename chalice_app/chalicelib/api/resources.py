"""What each resource answers, from the stores: no HTTP here, and no AWS.

Each takes the parameters that its route (``api.routes``) declares, and no other gets here.
"""

from itertools import islice

from chalicelib.api import parameters
from chalicelib.api.batch_pages import page as batch_page
from chalicelib.api.job_instances import ended_views, running_views
from chalicelib.api.job_pages import page as job_page
from chalicelib.api.parameters import Query
from chalicelib.api.progress import Progress
from chalicelib.api.views import (
    Json,
    batch_view,
    blocked_view,
    entry_view,
    instance_view,
    job_view,
    listed_job_view,
    repeated_batch_view,
    request_view,
    study_view,
)
from chalicelib.errors import NotFound, ObjectUnavailable
from chalicelib.imports.outcomes import read_outcomes
from chalicelib.operations.journal import Journal
from chalicelib.operations.release import release_instance as release
from chalicelib.operations.repeat import Operations
from chalicelib.operations.retry import last_request
from chalicelib.operations.retry import retry_batch as retry
from chalicelib.stores import Stores
from chalicelib.stores.blocked import names, of_batch
from chalicelib.stores.objects import read_manifest
from contract.errors import InvalidManifest
from contract.keys import manifest_key
from contract.manifest import Manifest
from contract.records import JobRecord

_MAX_JOB_ID = 64


def list_jobs(stores: Stores, query: Query) -> Json:
    """``GET /jobs``: ``{"jobs": [...], "nextCursor"?}``, newest first. Raises BadParameter."""
    wanted, cursor = parameters.job_query(query), parameters.key_cursor(query)
    jobs, following = job_page(stores, wanted, parameters.limit(query), cursor)
    return _with_cursor({"jobs": [listed_job_view(job) for job in jobs]}, _opaque(following))


def get_job(stores: Stores, job_id: str) -> Json:
    """``GET /jobs/{jobId}``; raises NotFound."""
    return job_view(_job(stores, job_id))


def list_job_instances(stores: Stores, bucket: str, job_id: str, query: Query) -> Json:
    """``GET /jobs/{jobId}/instances``: ``{"instances": [...], "nextCursor"?}`` in manifest order.

    Of a job that has ended, what it did; of another, how far its instances are. Raises NotFound
    and BadParameter.
    """
    limit, first = parameters.limit(query), parameters.offset(query)
    following = first + limit
    job = _job(stores, job_id)
    outcomes = read_outcomes(stores.objects, bucket, job)
    if outcomes is None:
        instances = _manifest(stores, bucket, job).instances
        views = running_views(instances[first:following], job, stores)
        count = len(instances)
    else:
        views = ended_views(outcomes[first:following], job, stores)
        count = len(outcomes)
    return _with_cursor({"instances": views}, following if following < count else None)


def get_study(stores: Stores, study_instance_uid: str) -> Json:
    """``GET /studies/{studyInstanceUID}``; raises NotFound and BadParameter."""
    study = parameters.uid("studyInstanceUID", study_instance_uid)
    progress = Progress(stores.batches)
    view = study_view(study, (progress.of(row) for row in stores.instances.by_study(study)))
    if not view["receivedCount"]:
        raise NotFound("no instance of this study has reached the import pipeline")
    return view


def get_instance(stores: Stores, journal: Journal, sop_instance_uid: str, query: Query) -> Json:
    """``GET /instances/{sopInstanceUID}``: every study, series and content that it came in.

    With the operator's request, if its batch was made for one. Raises NotFound and BadParameter.
    """
    uid = parameters.uid("sopInstanceUID", sop_instance_uid)
    limit, first = parameters.limit(query), parameters.offset(query)
    following = first + limit
    found = stores.instances.by_sop_instance(uid)
    rows = list(islice(found, first, following + 1))
    if not rows and not first:
        raise NotFound("no instance of this UID has reached the import pipeline")
    progress = Progress(stores.batches)
    shown = [progress.of(row) for row in rows[:limit]]
    asked = {batch_id: journal.of_batch(batch_id) for batch_id in {row.batch_id for row in shown}}
    views = [instance_view(row) | request_view(asked[row.batch_id]) for row in shown]
    answer = {"sopInstanceUID": uid, "instances": views}
    return _with_cursor(answer, following if len(rows) > limit else None)


def list_batches(stores: Stores, query: Query) -> Json:
    """``GET /batches``: ``{"batches": [...], "nextCursor"?}``, newest first.

    With ``callingAeTitle``, a page may be short and still have a next one. Raises BadParameter.
    """
    wanted, cursor = parameters.batch_query(query), parameters.key_cursor(query)
    batches, following = batch_page(stores.batches, wanted, parameters.limit(query), cursor)
    return _with_cursor({"batches": [batch_view(batch) for batch in batches]}, _opaque(following))


def get_batch(stores: Stores, journal: Journal, batch_id: str) -> Json:
    """``GET /batches/{batchId}``; raises NotFound and BadParameter."""
    batch = stores.batches.get(parameters.batch_id(batch_id))
    if batch is None:
        raise NotFound("there is no batch of this id")
    made_for = journal.of_batch(batch.batch_id)
    view = repeated_batch_view(batch, made_for, last_request(batch, journal))
    blocked = [blocked_view(record) for record in of_batch(batch.batch_id, stores.blocked)]
    return view | {"blocked": blocked} if blocked else view


def list_blocked(stores: Stores, query: Query) -> Json:
    """``GET /blocked``: ``{"blocked": [...], "nextCursor"?}``, by work and subject.

    Raises BadParameter.
    """
    limit, cursor = parameters.limit(query), parameters.key_cursor(query)
    keys = {":".join(name): name for name in names(stores.blocked, parameters.works(query))}
    behind = sorted(key for key in keys if cursor is None or key > cursor)
    shown, rest = behind[:limit], behind[limit:]
    found = stores.blocked.get_many([keys[key] for key in shown])
    records = sorted(found, key=lambda record: (record.work, record.subject))
    answer = {"blocked": [blocked_view(record) for record in records]}
    return _with_cursor(answer, _opaque(shown[-1]) if rest else None)


def retry_batch(operations: Operations, batch_id: str, body: bytes) -> Json:
    """``POST /batches/{batchId}/retry``; raises NotFound, BadParameter and OperationRefused."""
    asked = parameters.request(body, frozenset({"force"}))
    batch = parameters.batch_id(batch_id)
    return entry_view(retry(batch, asked.reason, operations, force=asked.force))


def release_instance(operations: Operations, sop_instance_uid: str, body: bytes) -> Json:
    """``POST /instances/{sopInstanceUID}/release``; raises what :func:`retry_batch` does."""
    asked = parameters.request(body, frozenset({"key", "force"}))
    uid = parameters.uid("sopInstanceUID", sop_instance_uid)
    return entry_view(release(uid, asked.reason, asked.key, operations, force=asked.force))


def _job(stores: Stores, job_id: str) -> JobRecord:
    # DynamoDB refuses a key of no bytes, or of more than 2,048: no job has such an id.
    job = stores.jobs.get(job_id) if 0 < len(job_id) <= _MAX_JOB_ID else None
    if job is None:
        raise NotFound("there is no import job of this id")
    return job


def _manifest(stores: Stores, bucket: str, job: JobRecord) -> Manifest:
    try:
        return read_manifest(stores.objects, bucket, manifest_key(job.batch_id))
    except (ObjectUnavailable, InvalidManifest) as error:
        raise NotFound(f"the manifest of the job's batch cannot be read: {error}") from None


def _opaque(key: str | None) -> str | None:
    return None if key is None else parameters.cursor_of(key)


def _with_cursor(answer: Json, cursor: object) -> Json:
    return answer if cursor is None else answer | {"nextCursor": str(cursor)}
