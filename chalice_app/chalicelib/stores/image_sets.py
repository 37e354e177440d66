"""Which study an image set is of, and that it was deleted: an item of the batch table for each.

An event of HealthImaging names an image set, and the ledger is by study. A deletion is remembered,
so that whoever records results from before it learns of it, in whatever order the two come.
"""

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from chalicelib.stores.table import Table
from chalicelib.threads import in_threads
from contract.times import to_iso

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_PREFIX = "image-set:"


class ImageSetStore(Protocol):
    """Image sets by their id, which no other data store's has."""

    def note(self, image_set_id: str, study_instance_uid: str) -> None:
        """An import wrote instances of the study into the image set."""
        ...

    def delete(self, image_set_id: str, at: datetime) -> str | None:
        """It is deleted in HealthImaging; returns its study, if an import has noted it."""
        ...

    def deleted(self, image_set_ids: Collection[str]) -> frozenset[str]:
        """Those that are known to be deleted."""
        ...


def image_set_key(image_set_id: str) -> str:
    """No batch id."""
    return f"{_PREFIX}{image_set_id}"


class DynamoImageSets:
    """An ImageSetStore."""

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self._table = Table(client, table)

    def note(self, image_set_id: str, study_instance_uid: str) -> None:
        """See ImageSetStore."""
        self._table.change(
            _key(image_set_id), "SET studyInstanceUID = :study", {"study": study_instance_uid}
        )

    def delete(self, image_set_id: str, at: datetime) -> str | None:
        """See ImageSetStore."""
        # Before the study is read: whoever notes it behind this, finds the deletion.
        self._table.change(_key(image_set_id), "SET deletedAt = :at", {"at": to_iso(at)})
        item = self._table.get(_key(image_set_id)) or {}
        return item.get("studyInstanceUID")

    def deleted(self, image_set_ids: Collection[str]) -> frozenset[str]:
        """See ImageSetStore."""
        ids = sorted(image_set_ids)
        items = in_threads(lambda each: self._table.get(_key(each)) or {}, ids)
        return frozenset(each for each, item in zip(ids, items, strict=True) if "deletedAt" in item)


class MemoryImageSets:
    """An ImageSetStore in memory; ``rows`` are each one's study and the time of its deletion."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[str | None, datetime | None]] = {}

    def note(self, image_set_id: str, study_instance_uid: str) -> None:
        """See ImageSetStore."""
        self.rows[image_set_id] = study_instance_uid, self.rows.get(image_set_id, (None, None))[1]

    def delete(self, image_set_id: str, at: datetime) -> str | None:
        """See ImageSetStore."""
        study = self.rows.get(image_set_id, (None, None))[0]
        self.rows[image_set_id] = study, at
        return study

    def deleted(self, image_set_ids: Collection[str]) -> frozenset[str]:
        """See ImageSetStore."""
        return frozenset(each for each in image_set_ids if self.rows.get(each, (None, None))[1])


def _key(image_set_id: str) -> dict[str, str]:
    return {"batchId": image_set_key(image_set_id)}
