"""Pagination: a slice of a list and the token of the next one."""

import base64
import binascii
from collections.abc import Sequence
from typing import TypeVar

from local.healthimaging.errors import ValidationException

T = TypeVar("T")

# maxResults' maximum, and what holds where a request has none.
MAX_RESULTS = 50


def page(
    items: Sequence[T], max_results: int | None, token: str | None
) -> tuple[list[T], str | None]:
    """One page of ``items``, and the nextToken where more follow."""
    start = _offset(token) if token else 0
    end = start + (max_results or MAX_RESULTS)
    return list(items[start:end]), _token(end) if end < len(items) else None


def _token(offset: int) -> str:
    return base64.urlsafe_b64encode(str(offset).encode()).decode()


def _offset(token: str) -> int:
    try:
        text = base64.b64decode(token, altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        text = ""
    if not text.isdecimal():
        raise ValidationException("Value at 'nextToken' is not a token this service issued")
    return int(text)
