"""What one import job may contain; a job over a limit ends FAILED.

https://docs.aws.amazon.com/general/latest/gr/healthimaging.html
Only the beginning of one message is public: "DICOM import job has failed. FILE_COUNTS_LI...".
"""

from collections.abc import Collection
from dataclasses import dataclass

MAX_FILES = 5_000
MAX_FOLDERS = 10_000
# "10 GB": taken as decimal, the stricter reading.
MAX_TOTAL_BYTES = 10_000_000_000
MAX_FILE_BYTES = 10_000_000_000


@dataclass(frozen=True, slots=True)
class S3Object:
    """One object of a listing. An archived one has to be restored before it can be read."""

    key: str
    size: int
    is_archived: bool = False


def limit_exceeded(objects: Collection[S3Object], prefix: str) -> str | None:
    """The message of a job over these objects if it must fail, else None."""
    for found, limit, name in (
        (len(objects), MAX_FILES, "FILE_COUNTS"),
        (_folders(objects, prefix), MAX_FOLDERS, "FOLDER_COUNTS"),
        (max((each.size for each in objects), default=0), MAX_FILE_BYTES, "FILE_SIZE"),
        (sum(each.size for each in objects), MAX_TOTAL_BYTES, "TOTAL_SIZE"),
    ):
        if found > limit:
            return (
                f"DICOM import job has failed. {name}_LIMIT_EXCEEDED: "
                f"the limit is {limit}, the input has {found}."
            )
    return None


def _folders(objects: Collection[S3Object], prefix: str) -> int:
    folders: set[str] = set()
    for each in objects:
        parent = each.key[len(prefix) :].rpartition("/")[0]
        while parent and parent not in folders:
            folders.add(parent)
            parent = parent.rpartition("/")[0]
    return len(folders)
