"""Path and query parameters into values; whatever is wrong is a BadParameter that names it."""

from collections.abc import Mapping, Set
from datetime import UTC, datetime

from chalicelib.errors import BadParameter
from chalicelib.stores.jobs import Cursor, JobQuery, Window
from contract.errors import InvalidUid
from contract.records import JobStatus
from contract.uids import parse_uid

DEFAULT_LIMIT = 50
MAX_LIMIT = 100
_MAX_OFFSET = 1_000_000

Query = Mapping[str, str]


def only(query: Query, allowed: Set[str]) -> None:
    """Refuse what the resource does not know: a misspelt filter must not widen the answer."""
    for name in query:
        if name not in allowed:
            raise BadParameter(_printable(name), f"unknown; known are {', '.join(sorted(allowed))}")


def limit(query: Query) -> int:
    """How many entries a page has."""
    return _number(query, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT)


def offset(query: Query) -> int:
    """The cursor of a list whose order never changes: how many entries were given before."""
    return _number(query, "cursor", 0, 0, _MAX_OFFSET)


def job_cursor(query: Query) -> Cursor | None:
    """The cursor of a list of jobs."""
    return Cursor.parse(query["cursor"]) if "cursor" in query else None


def job_query(query: Query) -> JobQuery:
    """The filters of a list of jobs."""
    study = query.get("study")
    return JobQuery(
        status=_status(query),
        study_instance_uid=None if study is None else uid("study", study),
        window=Window(since=_time(query, "from"), until=_time(query, "to")),
    )


def uid(name: str, text: str) -> str:
    """A DICOM UID."""
    try:
        return parse_uid(text)
    except InvalidUid as error:
        raise BadParameter(name, str(error)) from None


def _status(query: Query) -> JobStatus | None:
    if "status" not in query:
        return None
    try:
        return JobStatus(query["status"])
    except ValueError:
        raise BadParameter("status", f"one of {', '.join(JobStatus)}") from None


def _time(query: Query, name: str) -> datetime | None:
    if name not in query:
        return None
    try:
        moment = datetime.fromisoformat(query[name])
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):  # a day that begins in the year 0 or 10000 in UTC
        raise BadParameter(name, "a time in ISO 8601, such as 2026-11-23T09:30:00Z") from None


def _number(query: Query, name: str, default: int, least: int, most: int) -> int:
    text = query.get(name, str(default))
    # At most as many digits as can be in range: int() takes its time over a million of them.
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(most))):
        raise BadParameter(name, f"a whole number from {least} to {most}")
    if not least <= int(text) <= most:
        raise BadParameter(name, f"a whole number from {least} to {most}")
    return int(text)


def _printable(name: str) -> str:
    return "".join(each for each in name[:40] if each.isascii() and each.isprintable())
