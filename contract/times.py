"""Times as every record, manifest and REST answer writes them: ISO 8601, UTC, microseconds."""

from datetime import UTC, datetime

_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"


def to_iso(moment: datetime) -> str:
    """``2026-11-23T09:30:00.000000Z``; fixed width, so that text order is time order.

    Raises ValueError for a naive datetime: a local time must never be written as UTC.
    """
    if moment.tzinfo is None:
        raise ValueError("a time needs its time zone")
    # strftime would write the year 999 with three digits.
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def from_iso(text: str) -> datetime:
    """The inverse of :func:`to_iso`; raises ValueError for any other form."""
    return datetime.strptime(text, _FORMAT).replace(tzinfo=UTC)
