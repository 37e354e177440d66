"""What a cloud holds, to be compared between two runs."""

import json
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from contract.checksums import Checksum

# Not the same in two runs that end alike: times, the gate's traces of a dispatcher that died.
VOLATILE = {"updatedAt", "admittedAt", "endedAt", "submittedAt", "closedAt"}
VOLATILE |= {"startAskedAt", "correctedAt", "deletedAt"}
VOLATILE |= {"expiresAt", "listKey", "linkKey", "firstReceivedAt"}
VOLATILE |= {"dueAt", "eventId", "quietSince", "heldUntil", "holder", "changes"}
_REPORT = re.compile(r"(?<=/)\d{8}T\d{6}Z(?=\.json)")
# A retry's batch is named for the time it was asked for, and for what was asked.
_LATER_BATCH = re.compile(r"\d{8}T\d{6}Z-(?!0001020304050607)(?=[0-9a-f]{16})")
_HEX_ID = re.compile(r"\b[0-9a-f]{32}\b")
Json = dict[str, Any]


def described(key: str, body: bytes, metadata: Mapping[str, str]) -> Json:
    """An object, to be compared."""
    if key.endswith(".json"):
        said = json.loads(body)
    else:
        said = body.decode() if key.endswith(".ndjson") else Checksum.of(body).base64
    return {"body": said, "metadata": dict(metadata)}


def comparable(snapshot: Json) -> Json:
    """A snapshot without what differs between two runs that end alike."""
    tables = {
        table: _rows(row for row in rows if row.get("batchId") != "admission")
        for table, rows in snapshot["tables"].items()
    }
    objects = {
        name: (_body(name, each["body"]), each["metadata"])
        for name, each in snapshot["objects"].items()
    }
    return snapshot | {"tables": tables, "objects": objects}


def in_order(found: Json) -> str:
    """What was found, as a text that two equal ones have."""
    return json.dumps(found, indent=1, sort_keys=True)


def _rows(rows: Iterable[Json]) -> list[Json]:
    """In one order. A job that is started again may be linked twice; one link leads nowhere."""
    found = {in_order(each): each for each in map(_lasting, rows)}
    return [found[text] for text in sorted(found)]


def _lasting(row: Json) -> Json:
    if row.get("item", "").startswith("job#"):
        return {**row, "item": row["item"].rpartition("#")[2]}
    is_asked_for = any(name in row for name in ("retryOf", "newBatchId", "subject"))
    return without(row, VOLATILE | {"openedAt", "requestedAt"} if is_asked_for else VOLATILE)


def _body(name: str, body: Any) -> Any:
    if name.startswith("results/"):
        return ""  # of HealthImaging's and of reports, in words of their own
    return without(body, VOLATILE) if isinstance(body, dict) else body


def without(members: Mapping[str, Any], names: set[str]) -> Json:
    return {name: value for name, value in members.items() if name not in names}


def with_ids_hidden(snapshot: Json) -> Json:
    """HealthImaging's ids, invocations' names of themselves, when there was a retry or a report."""
    text = _HEX_ID.sub("<id>", json.dumps(snapshot, sort_keys=True))
    return dict(json.loads(_REPORT.sub("<time>", _LATER_BATCH.sub("<time>-", text))))


def as_late(found: Any, expected: Any, late: timedelta) -> bool:
    """Whether two snapshots are the same but for times, which may be ``late`` by that much.

    What runs afterwards then finds the same, and does the same.
    """
    if isinstance(found, dict) and isinstance(expected, dict):
        return found.keys() == expected.keys() and all(
            name in ("changes", "asked") or as_late(found[name], expected[name], late)
            for name in found
        )
    if isinstance(found, list) and isinstance(expected, list):
        pairs = zip(found, expected, strict=False)
        return len(found) == len(expected) and all(as_late(*pair, late) for pair in pairs)
    if found == expected:
        return True
    times = [_time(each) for each in (found, expected)]
    if None in times:
        return False
    return timedelta(0) <= times[0] - times[1] <= late  # type: ignore[operator]


def _time(value: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
