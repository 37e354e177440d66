"""What each resource answers, from the stores: no HTTP here, and no AWS."""

from chalicelib.api import parameters
from chalicelib.api.parameters import Query
from chalicelib.api.views import Json, job_instance_view, job_view, study_view
from chalicelib.errors import NotFound, ObjectUnavailable
from chalicelib.stores import Stores
from chalicelib.stores.jobs import page
from chalicelib.stores.objects import read_manifest
from contract.errors import InvalidManifest
from contract.keys import manifest_key
from contract.manifest import Manifest
from contract.records import JobRecord

_JOB_FILTERS = frozenset({"status", "study", "from", "to", "limit", "cursor"})
_PAGE = frozenset({"limit", "cursor"})
_MAX_JOB_ID = 64


def list_jobs(stores: Stores, query: Query) -> Json:
    """``GET /jobs``: ``{"jobs": [...], "nextCursor"?}``, newest first. Raises BadParameter."""
    parameters.only(query, _JOB_FILTERS)
    wanted, cursor = parameters.job_query(query), parameters.job_cursor(query)
    jobs, following = page(stores.jobs, wanted, parameters.limit(query), cursor)
    return _with_cursor({"jobs": [job_view(job) for job in jobs]}, following)


def get_job(stores: Stores, job_id: str) -> Json:
    """``GET /jobs/{jobId}``; raises NotFound."""
    return job_view(_job(stores, job_id))


def list_job_instances(stores: Stores, bucket: str, job_id: str, query: Query) -> Json:
    """``GET /jobs/{jobId}/instances``: ``{"instances": [...], "nextCursor"?}`` in manifest order.

    Raises NotFound and BadParameter.
    """
    parameters.only(query, _PAGE)
    limit, first = parameters.limit(query), parameters.offset(query)
    job = _job(stores, job_id)
    instances = _manifest(stores, bucket, job).instances
    shown = instances[first : first + limit]
    rows = stores.instances.get_many(dict.fromkeys(each.sop_instance_uid for each in shown))
    views = [
        job_instance_view(each, rows.get(each.sop_instance_uid), job.batch_id) for each in shown
    ]
    following = first + limit
    return _with_cursor({"instances": views}, following if following < len(instances) else None)


def get_study(stores: Stores, study_instance_uid: str) -> Json:
    """``GET /studies/{studyInstanceUID}``; raises NotFound and BadParameter."""
    study = parameters.uid("studyInstanceUID", study_instance_uid)
    view = study_view(study, stores.instances.by_study(study))
    if not view["receivedCount"]:
        raise NotFound("no instance of this study has reached the import pipeline")
    return view


def _job(stores: Stores, job_id: str) -> JobRecord:
    # DynamoDB refuses a key of more than 2,048 bytes: no job has such an id.
    job = stores.jobs.get(job_id) if len(job_id) <= _MAX_JOB_ID else None
    if job is None:
        raise NotFound("there is no import job of this id")
    return job


def _manifest(stores: Stores, bucket: str, job: JobRecord) -> Manifest:
    try:
        return read_manifest(stores.objects, bucket, manifest_key(job.batch_id))
    except (ObjectUnavailable, InvalidManifest) as error:
        raise NotFound(f"the manifest of the job's batch cannot be read: {error}") from None


def _with_cursor(answer: Json, cursor: object) -> Json:
    return answer if cursor is None else answer | {"nextCursor": str(cursor)}
