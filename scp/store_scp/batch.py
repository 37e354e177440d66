"""One batch of the book: what was put into it, and when it closes if nothing more is."""

import math
from dataclasses import dataclass, field

from contract.job_limits import metadata_bytes
from contract.manifest import CloseReason, ManifestInstance
from store_scp.instance import Route

# Who sent it, to whom, on which route, and the study unless batches are mixed.
Group = tuple[str, str, Route, str | None]


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """When batches close; seconds, files and bytes.

    ``max_instance_bytes`` is what an instance may have whose size is not known yet.
    """

    quiet_seconds: float
    held_quiet_seconds: float
    max_files: int
    max_bytes: int
    max_metadata_bytes: int
    max_age_seconds: float
    max_instance_bytes: int


@dataclass(slots=True)
class Entry:
    """A key that is taken: by a PUT in flight, by a stored object, which is then ``listed``, or by
    a failed PUT, which may have landed all the same.

    ``arriving``: its size was not known when its place was reserved."""

    arriving: bool
    in_flight: bool = True
    listed: ManifestInstance | None = None


@dataclass(slots=True)
class Batch:
    """A batch that takes instances or waits for its last PUT."""

    batch_id: str
    group: Group
    opened_at: float
    active_at: float
    entries: dict[str, Entry] = field(default_factory=dict)
    # Dictionaries for their order: who held the batch ever, from where, and who still does.
    associations: dict[str, None] = field(default_factory=dict)
    addresses: dict[str, None] = field(default_factory=dict)
    holders: set[str] = field(default_factory=set)
    in_flight: int = 0
    files: int = 0
    size: int = 0
    metadata: int = 0
    sealed: CloseReason | None = None
    lost: bool = False

    def closes_at(self, limits: BatchLimits) -> float:
        """When the batch closes if nothing more happens; never while a PUT is in flight."""
        if self.in_flight:
            return math.inf
        if self.sealed:
            return -math.inf
        held = limits.held_quiet_seconds if self.holders else limits.quiet_seconds
        return min(self.opened_at + limits.max_age_seconds, self.active_at + held)

    def has_room(self, size: int, limits: BatchLimits) -> bool:
        """Whether so many bytes fit; whatever is alone does."""
        return not self.files or (
            self.size + size <= limits.max_bytes
            and self.metadata + metadata_bytes(size) <= limits.max_metadata_bytes
        )

    @property
    def guesses(self) -> bool:
        """Whether some of ``size`` is reserved for an instance whose own is not known yet."""
        return any(each.in_flight and each.arriving for each in self.entries.values())

    def grow(self, files: int, size: int) -> None:
        """Reserve an instance's place (``files`` 1), or give it back (-1)."""
        self.files += files
        self.size += files * size
        self.metadata += files * metadata_bytes(size)

    def stored(self) -> tuple[ManifestInstance, ...]:
        """What its manifest lists."""
        return tuple(each.listed for each in self.entries.values() if each.listed)
