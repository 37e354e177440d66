"""What is sent and kept: instances, and which bytes each of them is."""

from enum import StrEnum
from typing import NamedTuple

from store_scp.part10 import file_meta

from contract.checksums import Checksum

# PS3.10 7.1: the preamble and the prefix, then the group length element, whose value says how long
# the rest of the file meta is.
_LENGTH_AT, _META_AT = 140, 144


class Variant(StrEnum):
    """How a file came to be, beside the first that was made of its image.

    *Corrected* and *forged* ones have the same UIDs and other bytes, forged ones also the same
    checksum. Of the others one UID is another: they are other instances with the same SOP Instance
    UID.
    """

    ORIGINAL = "original"
    CORRECTED = "corrected"
    FORGED = "forged"
    MOVED = "moved to another study"
    SECOND_SERIES = "in a second series"


class Content(NamedTuple):
    """An instance (study, series and SOP Instance UID), and the SHA-256 of an object of it."""

    instance: str
    digest: Checksum


def received_digest(file: bytes, sop_class: str, sop_instance: str, syntax: str) -> Checksum:
    """The digest of the object that the receiver makes of a Part 10 file which is sent to it."""
    meta_length = int.from_bytes(file[_LENGTH_AT:_META_AT], "little")
    data_set = file[_META_AT + meta_length :]
    return Checksum.of(file_meta(sop_class, sop_instance, syntax) + data_set)
