"""The shapes of answers and bodies, as JSON Schema 2020-12 (what OpenAPI 3.1 speaks)."""

from typing import Any

from chalicelib.api.parameters import MAX_REASON
from chalicelib.stores.blocked import Work
from contract.records import BatchState, InstanceState, JobStatus
from contract.uids import MAX_UID_LENGTH

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
FLAG: Schema = {"type": "boolean"}
TIME: Schema = {"type": "string", "format": "date-time"}
UID: Schema = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)*$", "maxLength": MAX_UID_LENGTH}
TEXTS: Schema = {"type": "array", "items": TEXT}

_COUNTS = {
    "instanceCount": COUNT,
    "importedCount": COUNT,
    "failedCount": COUNT,
    "warningCount": COUNT,
    "duplicateCount": COUNT,
    "nonPrimaryCount": COUNT,
}


def reference(name: str) -> Schema:
    """A schema by its name in SCHEMAS."""
    return {"$ref": f"#/components/schemas/{name}"}


def _object(required: dict[str, Schema], **optional: Schema) -> Schema:
    return {
        "type": "object",
        "required": list(required),
        "properties": required | optional,
        "additionalProperties": False,
    }


def _page(name: str, of: str) -> Schema:
    return _object({name: {"type": "array", "items": reference(of)}}, nextCursor=TEXT)


_REQUEST: Schema = _object(
    {
        "kind": {
            "type": "string",
            "enum": ["retry", "retry-forced", "release", "release-forced"],
        },
        "reason": TEXT,
        "requestedAt": TIME,
    }
)
_STATE: Schema = {"type": "string", "enum": list(InstanceState)}
_INSTANCE = {
    "sopInstanceUID": UID,
    "studyInstanceUID": UID,
    "seriesInstanceUID": UID,
    "batchId": TEXT,
    "state": _STATE,
}
_INSTANCE_MORE = {
    "sopClassUID": UID,
    "datastoreId": TEXT,
    "key": TEXT,
    "size": COUNT,
    "checksum": TEXT,
    "updatedAt": TIME,
    "jobId": TEXT,
    "reason": TEXT,
    "imageSetId": TEXT,
    "imageSetVersion": COUNT,
    "isPrimary": FLAG,
    "warnings": TEXTS,
    "beside": TEXT,
    "differs": FLAG,
    "compared": FLAG,
}
_FORCE: Schema = {
    "type": "boolean",
    "description": "import what is imported, a duplicate, or deleted in HealthImaging, once more",
}
_INSTANCES: Schema = {"type": "array", "items": reference("Instance")}

SCHEMAS: dict[str, Schema] = {
    "Job": _object(
        {
            "jobId": TEXT,
            "jobStatus": {"type": "string", "enum": list(JobStatus)},
            "batchId": TEXT,
            "datastoreId": TEXT,
            "dataAccessRoleArn": TEXT,
            "inputS3Uri": TEXT,
            "outputS3Uri": TEXT,
            "submittedAt": TIME,
            "callingAeTitle": TEXT,
            "imageSetCount": COUNT,
            **_COUNTS,
        },
        endedAt=TIME,
        executionArn=TEXT,
        studyInstanceUID=UID,
        seriesInstanceUID=UID,
        sopInstanceUID=UID,
        studyDate={"type": "string", "pattern": "^[0-9]{8}$"},
        message=TEXT,
        imageSetIds=TEXTS,
    ),
    "Jobs": _page("jobs", "Job"),
    "Batch": _object(
        {
            "batchId": TEXT,
            "state": {"type": "string", "enum": list(BatchState)},
            "callingAeTitle": TEXT,
            "openedAt": TIME,
            **_COUNTS,
        },
        calledAeTitle=TEXT,
        datastoreId=TEXT,
        urgent=FLAG,
        owner=TEXT,
        leaseExpiresAt=TIME,
        manifestKey=TEXT,
        closedAt=TIME,
        admittedAt=TIME,
        attempt=COUNT,
        startAskedAt=TIME,
        endedAt=TIME,
        jobId=TEXT,
        message=TEXT,
        retryOf=TEXT,
        retriedAs=TEXT,
        forced=FLAG,
        correctedAt=TIME,
        request=_REQUEST,
        retryReason=TEXT,
        retryRequestedAt=TIME,
        blocked={"type": "array", "items": reference("BlockedSubject")},
    ),
    "Batches": _page("batches", "Batch"),
    "BlockedSubject": _object(
        {
            "work": {"type": "string", "enum": list(Work)},
            "subject": TEXT,
            "reason": TEXT,
            "why": TEXT,
            "since": TIME,
            "triedAt": TIME,
            "nextTryAt": TIME,
            "tries": COUNT,
        }
    ),
    "Blocked": _page("blocked", "BlockedSubject"),
    "Instance": _object(_INSTANCE, **_INSTANCE_MORE),
    "RequestedInstance": _object(_INSTANCE, **_INSTANCE_MORE, request=_REQUEST),
    "Instances": _object(
        {
            "sopInstanceUID": UID,
            "instances": {"type": "array", "items": reference("RequestedInstance")},
        },
        nextCursor=TEXT,
    ),
    "JobInstance": _object(
        _INSTANCE,
        **_INSTANCE_MORE,
        duplicateOfBatchId=TEXT,
        supersededByBatchId=TEXT,
        latest=_object({"state": _STATE, "batchId": TEXT}),
    ),
    "JobInstances": _page("instances", "JobInstance"),
    "Study": _object(
        {
            "studyInstanceUID": UID,
            "receivedCount": COUNT,
            "waitingCount": COUNT,
            "importingCount": COUNT,
            "importedCount": COUNT,
            "failedCount": COUNT,
            "deletedCount": COUNT,
            "nonPrimaryCount": COUNT,
            "instanceCount": COUNT,
            "conflictCount": COUNT,
            "jobCount": COUNT,
            "batchCount": COUNT,
            "jobIds": TEXTS,
            "batchIds": TEXTS,
            "failed": _INSTANCES,
            "conflicts": _INSTANCES,
        }
    ),
    "Retry": _object(
        {"reason": {"type": "string", "minLength": 1, "maxLength": MAX_REASON}}, force=_FORCE
    ),
    "Release": _object(
        {"reason": {"type": "string", "minLength": 1, "maxLength": MAX_REASON}},
        key={"type": "string", "description": "its key under instances/ or quarantine/"},
        force=_FORCE,
    ),
    "Repeated": _object({"batchId": TEXT, "reason": TEXT, "requestedAt": TIME}),
    "Health": _object({"status": TEXT, "version": TEXT}),
    "OpenApi": {"type": "object"},
    "Problem": _object(
        {"type": TEXT, "title": TEXT, "status": COUNT, "detail": TEXT, "instance": TEXT},
        parameter=TEXT,
    ),
}
