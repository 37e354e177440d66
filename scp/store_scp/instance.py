"""One received SOP instance, on its way from an association to a sink."""

import hashlib
from dataclasses import dataclass

from contract.checksums import Checksum
from contract.metadata import Sender
from store_scp.part10 import Header, file_meta


@dataclass(frozen=True, slots=True)
class Instance:
    """A Part 10 object in two parts: the file meta we wrote, the data set exactly as received.

    ``size`` and ``checksum`` are of the whole object.
    """

    header: Header
    transfer_syntax_uid: str
    file_meta: bytes
    data_set: memoryview
    size: int
    checksum: Checksum
    sender: Sender

    @classmethod
    def build(
        cls, header: Header, transfer_syntax_uid: str, data_set: memoryview, sender: Sender
    ) -> "Instance":
        """Put the file meta in front of a data set, and hash both without joining them."""
        meta = file_meta(header.sop_class_uid, header.sop_instance_uid, transfer_syntax_uid)
        digest = hashlib.sha256(meta)
        digest.update(data_set)
        return cls(
            header=header,
            transfer_syntax_uid=transfer_syntax_uid,
            file_meta=meta,
            data_set=data_set,
            size=len(meta) + len(data_set),
            checksum=Checksum.sha256(digest.digest()),
            sender=sender,
        )
