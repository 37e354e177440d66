"""One event on EventBridge, and what stays the same however often it is sent."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

# EventBridge keeps "aws." for itself.
SOURCE = "healthimaging.store-scp"
VERSION = 1
_ID_LENGTH = 32


class EventType(StrEnum):
    """EventBridge's ``detail-type``."""

    BATCH_IMPORTED = "Batch Imported"
    IMPORT_FAILED = "Import Failed"
    INSTANCE_QUARANTINED = "Instance Quarantined"
    STUDY_QUIET = "Study Quiet"
    WORK_BLOCKED = "Work Blocked"


@dataclass(frozen=True, slots=True)
class Event:
    """A fact. ``detail`` is JSON, as ``events.schemas`` describes it."""

    type: EventType
    occurred_at: datetime
    detail: Mapping[str, Any]

    @property
    def event_id(self) -> str:
        """The same for the same fact: EventBridge's own ``id`` is another for each sending."""
        return str(self.detail["eventId"])


def an_event(kind: EventType, subject: str, occurred_at: datetime, /, **detail: Any) -> Event:
    """The event of a fact that ``subject`` alone tells from all others of its type."""
    digest = hashlib.sha256(f"{kind}:{subject}".encode()).hexdigest()
    known = {name: value for name, value in detail.items() if value is not None}
    members = {"version": VERSION, "eventId": digest[:_ID_LENGTH], **known}
    return Event(kind, occurred_at, members)
