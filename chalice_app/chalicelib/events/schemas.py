"""The events' details as JSON Schema, version 1: what consumers may rely on.

docs/events.md is drawn from this, and the tests hold every event against it. A member may be added
within a version; one that goes, or changes its meaning, makes a new ``version``.
"""

from typing import Any

from chalicelib.events.event import VERSION, EventType
from chalicelib.events.facts import MAX_LISTED
from chalicelib.stores.blocked import Work
from contract.records import BatchState

Schema = dict[str, Any]

_TIME = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$"
_UID = r"^[0-9.]{1,64}$"
_BATCH_ID = r"^\d{8}T\d{6}Z-[0-9a-f]{16}$"


def _text(description: str, pattern: str = ".") -> Schema:
    return {"type": "string", "pattern": pattern, "description": description}


def _number(description: str) -> Schema:
    return {"type": "integer", "description": description}


def _texts(description: str, pattern: str = ".") -> Schema:
    items = {"type": "string", "pattern": pattern}
    return {
        "type": "array",
        "items": items,
        "maxItems": MAX_LISTED,
        "description": f"{description}; the first {MAX_LISTED}",
    }


_ALL: Schema = {
    "version": {"type": "integer", "enum": [VERSION], "description": f"{VERSION}"},
    "eventId": _text(
        "the same for the same fact, however often it is delivered", r"^[0-9a-f]{32}$"
    ),
}
_BATCH: Schema = {
    "batchId": _text("the batch; `GET /batches/{batchId}`", _BATCH_ID),
    "endedAt": _text("when it ended, ISO 8601 UTC", _TIME),
    "callingAeTitle": _text("who sent it"),
    "jobId": _text("its import job, `GET /jobs/{jobId}`; absent if none was started"),
    "datastoreId": _text(
        "the HealthImaging data store; absent if the batch names none and was never closed"
    ),
    "corrected": {
        "type": "boolean",
        "enum": [True],
        "description": "another end was recorded before, and HealthImaging has more than that; "
        "else absent",
    },
    "retryOf": _text("the batch whose failed instances it repeats, if it is a retry", _BATCH_ID),
    "instanceCount": _number("instances in the batch"),
    "importedCount": _number("of these, in HealthImaging"),
    "failedCount": _number("of these, not in HealthImaging"),
    "warningCount": _number("imported with a warning"),
    "duplicateCount": _number("left out: another batch imports the same bytes"),
    "nonPrimaryCount": _number("imported into an image set that is not the primary one"),
    "studyCount": _number("studies in the batch; 0 if its manifest cannot be read"),
    "studyInstanceUIDs": _texts("their UIDs", _UID),
    "imageSetCount": _number("image sets that the job wrote to"),
    "imageSetIds": _texts("their ids"),
}
_BATCH_OPTIONAL = ("jobId", "datastoreId", "corrected", "retryOf")


def _batch(description: str, *states: BatchState) -> Schema:
    state = {
        "type": "string",
        "enum": [str(state) for state in states],
        "description": "`PARTIAL`: some instances were imported, some failed",
    }
    return _object(description, {"state": state} | _BATCH, _BATCH_OPTIONAL)


def _object(description: str, members: Schema, optional: tuple[str, ...] = ()) -> Schema:
    members = _ALL | members
    return {
        "type": "object",
        "description": description,
        "properties": members,
        "required": [name for name in members if name not in optional],
    }


SCHEMAS: dict[EventType, Schema] = {
    EventType.BATCH_IMPORTED: _batch(
        "A batch has ended, and at least one of its instances is in HealthImaging.",
        BatchState.IMPORTED,
        BatchState.PARTIAL,
    ),
    EventType.IMPORT_FAILED: _batch(
        "A batch has ended, and at least one of its instances is not in HealthImaging.",
        BatchState.PARTIAL,
        BatchState.FAILED,
    ),
    EventType.STUDY_QUIET: _object(
        "Every batch of a study has ended, and for `STUDY_QUIET_MINUTES` nothing came.",
        {
            "studyInstanceUID": _text("the study; `GET /studies/{studyInstanceUID}`", _UID),
            "quietSince": _text("when its last batch ended, ISO 8601 UTC", _TIME),
            "batchCount": _number("batches since the study was quiet last"),
            "batchIds": _texts("their ids", _BATCH_ID),
        },
    ),
    EventType.WORK_BLOCKED: _object(
        "An object or a batch cannot be handled until somebody changes something; it is tried "
        "again at growing intervals. `GET /blocked` lists all that are.",
        {
            "work": {
                "type": "string",
                "enum": [str(work) for work in Work if work is not Work.ANNOUNCEMENT],
                "description": "what was to be done with it",
            },
            "subject": _text("a batch's id; of a dropped object, a digest of its key and ETag"),
            "reason": _text("the error's name"),
            "why": _text("what the error says, such as S3's operation and code"),
            "since": _text("when it failed first, ISO 8601 UTC", _TIME),
        },
    ),
    EventType.INSTANCE_QUARANTINED: _object(
        "An object was put aside under `quarantine/` and is not imported from there.",
        {
            "key": _text("where it stands in the DICOM bucket", "^quarantine/"),
            "reason": _text("the folder's name; runbook.md says what each means"),
            "batchId": _text("the batch it was in; absent for a dropped file", _BATCH_ID),
            "studyInstanceUID": _text("absent for a dropped file", _UID),
            "seriesInstanceUID": _text("absent for a dropped file", _UID),
            "sopInstanceUID": _text(
                "absent for a dropped file; `GET /instances/{sopInstanceUID}`", _UID
            ),
        },
        ("batchId", "studyInstanceUID", "seriesInstanceUID", "sopInstanceUID"),
    ),
}
