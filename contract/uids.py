"""DICOM unique identifiers (PS3.5 9.1), checked before they become keys, records or log lines."""

import hashlib
import re

from contract.errors import InvalidUid

MAX_UID_LENGTH = 64
# PS3.5 9.1 also forbids leading zeros in a component. Senders break that rule, and a zero harms no
# key: HealthImaging itself imports such instances with a warning (INVALID_UID_FORMAT).
_UID = re.compile(r"[0-9]+(?:\.[0-9]+)*", re.ASCII)


def parse_uid(text: str) -> str:
    """``text`` itself, once it is known to be digits and dots, at most 64 characters.

    Raises InvalidUid, whose message does not repeat the text: it came from a peer.
    """
    if len(text) > MAX_UID_LENGTH:
        raise InvalidUid(f"a UID has at most {MAX_UID_LENGTH} characters, this one {len(text)}")
    if not text:
        raise InvalidUid("a UID may not be empty")
    if not _UID.fullmatch(text):
        raise InvalidUid("a UID is digits in components separated by single dots")
    return text


def is_uid(text: str) -> bool:
    """Whether :func:`parse_uid` would accept ``text``."""
    return len(text) <= MAX_UID_LENGTH and _UID.fullmatch(text) is not None


def uid_digest(uid: str) -> str:
    """Twelve hex digits that stand for a UID in log lines, where UIDs in clear do not belong."""
    return hashlib.sha256(uid.encode()).hexdigest()[:12]
