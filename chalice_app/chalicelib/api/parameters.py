"""Parameters and bodies into values; whatever is wrong is a BadParameter that names it."""

import base64
import json
from collections.abc import Mapping, Set
from dataclasses import dataclass
from datetime import UTC, datetime

from chalicelib.api.batch_pages import BatchQuery
from chalicelib.api.job_pages import JobQuery, Window
from chalicelib.errors import BadParameter
from chalicelib.stores.blocked import Work
from contract.ae_titles import parse_ae_title
from contract.errors import ContractError, InvalidUid
from contract.keys import parse_batch_id
from contract.records import BatchState, JobStatus
from contract.uids import parse_uid

DEFAULT_LIMIT = 50
MAX_LIMIT = 100
_MAX_OFFSET = 1_000_000
_MAX_CURSOR = 256
MAX_REASON = 500
_MAX_KEY = 1_024
_MAX_BODY_BYTES = 16_384

Query = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Request:
    """What the body of a POST asks for, and why."""

    reason: str
    key: str | None = None
    force: bool = False


def only(query: Query, allowed: Set[str]) -> None:
    """Refuse what the resource does not know: a misspelt filter must not widen the answer."""
    for name in query:
        if name not in allowed:
            known = f"known are {', '.join(sorted(allowed))}" if allowed else "there are none here"
            raise BadParameter(_printable(name), f"unknown; {known}")


def limit(query: Query) -> int:
    """How many entries a page has."""
    return _number(query, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT)


def offset(query: Query) -> int:
    """The cursor of a list whose order never changes: how many entries were given before."""
    return _number(query, "cursor", 0, 0, _MAX_OFFSET)


def key_cursor(query: Query) -> str | None:
    """The cursor of a list in the order of time: the last key that the page before looked at."""
    if "cursor" not in query:
        return None
    try:
        if len(query["cursor"]) > _MAX_CURSOR:
            raise ValueError("too long")
        key = _decoded(query["cursor"])
        if not (key.isascii() and key.isprintable()):
            raise ValueError("no key of a list")
    except ValueError:
        raise BadParameter("cursor", "not a nextCursor of this API") from None
    return key


def object_cursor(cursor: str) -> str:
    """The cursor of a list of objects: a key of S3, which may have any character."""
    try:
        return _decoded(cursor)
    except ValueError:
        raise BadParameter("cursor", "not a nextCursor of this list") from None


def _decoded(cursor: str) -> str:
    key = base64.b64decode(cursor, altchars=b"-_", validate=True).decode()
    if not key:  # binascii.Error and UnicodeDecodeError are ValueErrors, too
        raise ValueError("no key")
    return key


def cursor_of(key: str) -> str:
    """The inverse of :func:`key_cursor` and :func:`object_cursor`."""
    return base64.urlsafe_b64encode(key.encode()).decode("ascii")


def job_query(query: Query) -> JobQuery:
    """The filters of a list of jobs."""
    study = query.get("study")
    return JobQuery(
        status=_status(query),
        study_instance_uid=None if study is None else uid("study", study),
        window=Window(since=_time(query, "from"), until=_time(query, "to")),
    )


def batch_query(query: Query) -> BatchQuery:
    """The filters of a list of batches."""
    title = query.get("callingAeTitle")
    try:
        return BatchQuery(_state(query), None if title is None else parse_ae_title(title))
    except ContractError as error:
        raise BadParameter("callingAeTitle", str(error)) from None


def works(query: Query) -> tuple[Work, ...]:
    """The filter of a list of what is blocked; all kinds of work without it."""
    text = query.get("work")
    if text is None:
        return tuple(Work)
    if text not in set(Work):
        raise BadParameter("work", f"must be one of {', '.join(Work)}")
    return (Work(text),)


def batch_id(text: str) -> str:
    """A batch's id."""
    try:
        return parse_batch_id(text)
    except ContractError as error:
        raise BadParameter("batchId", str(error)) from None


def request(body: bytes, allowed: Set[str]) -> Request:
    """A POST's body: a JSON object with a ``reason``, and ``allowed`` members beside it."""
    if len(body) > _MAX_BODY_BYTES:
        raise BadParameter("body", f"at most {_MAX_BODY_BYTES} bytes")
    try:
        members = json.loads(body)
    except (ValueError, RecursionError):
        raise BadParameter("body", 'a JSON object, such as {"reason": "..."}') from None
    if not isinstance(members, dict):
        raise BadParameter("body", 'a JSON object, such as {"reason": "..."}')
    only(members, allowed | {"reason"})
    return Request(
        reason=_text(members, "reason", MAX_REASON),
        key=_text(members, "key", _MAX_KEY) if "key" in members else None,
        force=_flag(members, "force"),
    )


def _flag(members: Mapping[str, object], name: str) -> bool:
    value = members.get(name, False)
    if not isinstance(value, bool):
        raise BadParameter(name, "true or false")
    return value


def _text(members: Mapping[str, object], name: str, most: int) -> str:
    text = members.get(name)
    if not isinstance(text, str) or not text.strip() or len(text) > most:
        raise BadParameter(name, f"a text of 1 to {most} characters")
    if not text.isprintable():
        raise BadParameter(name, "printable characters in one line")
    return text.strip()


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


def _state(query: Query) -> BatchState | None:
    if "state" not in query:
        return None
    try:
        return BatchState(query["state"])
    except ValueError:
        raise BadParameter("state", f"one of {', '.join(BatchState)}") from None


def _time(query: Query, name: str) -> datetime | None:
    if name not in query:
        return None
    try:
        return parse_time(query[name])
    except ValueError as error:
        raise BadParameter(name, str(error)) from None


def parse_time(text: str) -> datetime:
    """A time in ISO 8601, which is UTC if it names no zone; raises ValueError with the rule."""
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):  # a day that begins in the year 0 or 10000 in UTC
        raise ValueError("a time in ISO 8601, such as 2026-11-23T09:30:00Z") from None


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
