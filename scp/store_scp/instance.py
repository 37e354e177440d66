"""One SOP instance on its way from an association to a sink."""

from dataclasses import dataclass

from contract.checksums import Checksum
from contract.header import Header
from contract.keys import InstanceKey
from contract.manifest import ManifestInstance
from contract.metadata import Sender


@dataclass(frozen=True, slots=True)
class Route:
    """Where an association's instances go.

    ``by_study``: whether a batch holds one study; ``datastore_id`` None: the deployment's;
    ``urgent``: whether its batches are imported before others.
    """

    by_study: bool
    datastore_id: str | None = None
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class Instance:
    """What is known of an instance besides its bytes."""

    header: Header
    transfer_syntax_uid: str
    sender: Sender
    route: Route

    def entry(self, batch_id: str, size: int, checksum: Checksum) -> ManifestInstance:
        """The instance in a batch's manifest; size in bytes and checksum are the whole object's."""
        return ManifestInstance(
            key=str(self.key(batch_id)),
            size=size,
            checksum=checksum,
            sop_class_uid=self.header.sop_class_uid,
            sop_instance_uid=self.header.sop_instance_uid,
            series_instance_uid=self.header.series_instance_uid,
            study_instance_uid=self.header.study_instance_uid,
            study_date=self.header.study_date,
            transfer_syntax_uid=self.transfer_syntax_uid,
        )

    def key(self, batch_id: str) -> InstanceKey:
        """The object's name in a batch."""
        return InstanceKey(
            batch_id,
            self.header.study_instance_uid,
            self.header.series_instance_uid,
            self.header.sop_instance_uid,
        )


@dataclass(frozen=True, slots=True)
class Content:
    """A whole Part 10 object in memory: the file meta is ours, the data set exactly as received."""

    body: memoryview
    checksum: Checksum
