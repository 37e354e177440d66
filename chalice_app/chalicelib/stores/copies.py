"""Copies that name what they are copies of, so that exactly that may be deleted behind them."""

import hashlib
from collections.abc import Mapping

from chalicelib.stores.files import Files, StoredObject

# In a copy's metadata. A digest of the object's key, since a key may hold a name; and its ETag.
COPIED_FROM = "copied-from"
_COPIED_ETAG = "copied-etag"


def mark_of(key: str) -> str:
    """Stands for an object's key in its copy's metadata."""
    return hashlib.sha256(key.encode()).hexdigest()


def origin(source: StoredObject) -> dict[str, str]:
    """What a copy's metadata says of its source."""
    return {COPIED_FROM: mark_of(source.key), _COPIED_ETAG: source.etag}


def etag_of_original(copied: Mapping[str, str], key: str) -> str | None:
    """The ETag of the object at ``key`` that a copy with this metadata was made of, or None."""
    return copied.get(_COPIED_ETAG) if copied.get(COPIED_FROM) == mark_of(key) else None


def delete_original(key: str, copy: StoredObject, files: Files) -> None:
    """Delete the object at ``key`` if ``copy`` was made of it; a copy of another deletes nothing.

    Raises ObjectDenied, or ObjectChanged if another object stands there by now.
    """
    etag = etag_of_original(copy.metadata, key)
    if etag is not None:
        files.delete(key, etag)
