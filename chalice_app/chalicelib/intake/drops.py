"""What lies in the dropbox, and the batches it becomes: values only, no calls to AWS."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from chalicelib.stores.copies import origin
from chalicelib.stores.files import StoredObject
from contract.checksums import Checksum
from contract.header import Defect, Header, HeaderUnreadable
from contract.job_limits import BATCH, JOB, JobLimits, cut
from contract.keys import (
    BATCH_ENTROPY_BYTES,
    InstanceKey,
    instance_id,
    new_batch_id,
    quarantine_key,
)
from contract.manifest import CloseReason, Manifest, ManifestInstance, Source
from contract.metadata import Sender, Target, to_metadata
from contract.part10 import read_file

AE_TITLE = "DROPBOX"
_SENDER = Sender(AE_TITLE, AE_TITLE, "dropbox", "dropbox")
# A key may be 1,024 bytes, three times that when quoted; all of an object's metadata, 2 KB.
_MAX_ORIGINAL_KEY = 1_500


@dataclass(frozen=True, slots=True)
class Dropped:
    """A DICOM file in the dropbox."""

    source: StoredObject
    header: Header
    transfer_syntax_uid: str

    @property
    def instance(self) -> str:
        """The instance that it says it is."""
        header = self.header
        return instance_id(
            header.study_instance_uid, header.series_instance_uid, header.sop_instance_uid
        )

    def key(self, batch_id: str) -> InstanceKey:
        """Its name in a batch."""
        return InstanceKey(
            batch_id,
            self.header.study_instance_uid,
            self.header.series_instance_uid,
            self.header.sop_instance_uid,
        )

    def metadata(self, batch_id: str) -> dict[str, str]:
        """What its copy in a batch carries."""
        described = to_metadata(
            self.key(batch_id),
            self.header.sop_class_uid,
            self.transfer_syntax_uid,
            self.header.study_date,
            None,
            _SENDER,
            Target("study"),
        )
        return described | origin(self.source)

    def entry(self, batch_id: str, checksum: Checksum) -> ManifestInstance:
        """Its entry in a batch's manifest."""
        return ManifestInstance(
            key=str(self.key(batch_id)),
            size=self.source.size,
            checksum=checksum,
            sop_class_uid=self.header.sop_class_uid,
            sop_instance_uid=self.header.sop_instance_uid,
            series_instance_uid=self.header.series_instance_uid,
            study_instance_uid=self.header.study_instance_uid,
            study_date=self.header.study_date,
            transfer_syntax_uid=self.transfer_syntax_uid,
        )


@dataclass(frozen=True, slots=True)
class Unfit:
    """An object that cannot be imported; ``more_may_help`` if only its beginning was read."""

    source: StoredObject
    reason: str
    more_may_help: bool = False

    @property
    def target(self) -> str:
        """Where it goes, under a digest of its key: a file's name may be a patient's."""
        return quarantine_key(self.reason, digest(self.source))

    @property
    def metadata(self) -> dict[str, str]:
        """The reason, and where it was."""
        return {
            "reason": self.reason,
            "original-key": quote(self.source.key)[-_MAX_ORIGINAL_KEY:],
        }


def judge(data: bytes, source: StoredObject) -> Dropped | Unfit:
    """What an object is, from its beginning."""
    if source.size > JOB.size_bytes:
        return Unfit(source, "too-large")
    try:
        header, transfer_syntax_uid = read_file(memoryview(data))
    except HeaderUnreadable as error:
        more = error.defect is not Defect.NOT_PART10 and len(data) < source.size
        return Unfit(source, error.defect, more_may_help=more)
    return Dropped(source, header, transfer_syntax_uid)


def plan(dropped: Iterable[Dropped], limits: JobLimits = BATCH) -> list[tuple[Dropped, ...]]:
    """Groups that fit into one batch: one study, within the limits, no instance twice.

    Two files that say they are the same instance go into two batches: both are kept.
    """
    turns: dict[tuple[str, int], list[Dropped]] = defaultdict(list)
    seen: dict[str, int] = defaultdict(int)
    for each in sorted(dropped, key=lambda each: each.source.key):
        turns[each.header.study_instance_uid, seen[each.instance]].append(each)
        seen[each.instance] += 1
    return [
        tuple(group)
        for turn in turns.values()
        for group in cut(turn, lambda each: each.source.size, limits)
    ]


def group_id(group: Sequence[Dropped]) -> str:
    """The batch id of a group: the same for the same objects, whoever finds them when."""
    combined = hashlib.sha256("\n".join(digest(each.source) for each in group).encode()).digest()
    latest = max(each.source.modified_at for each in group)
    return new_batch_id(latest, combined[:BATCH_ENTROPY_BYTES])


def group_manifest(group: Sequence[Dropped], entries: Iterable[ManifestInstance]) -> Manifest:
    """The manifest of a group's batch; ``entries`` are those that could be copied."""
    return Manifest(
        batch_id=group_id(group),
        closed_at=max(each.source.modified_at for each in group),
        close_reason=CloseReason.DROPBOX,
        source=Source(AE_TITLE, AE_TITLE, (), ()),
        datastore_id=None,
        instances=tuple(entries),
    )


def digest(source: StoredObject) -> str:
    """Stands for this very object in logs, records and keys: names do not belong there."""
    return hashlib.sha256(f"{source.key}\n{source.etag}".encode()).hexdigest()
