"""Application entity titles (PS3.5 6.2, VR AE), checked before they are compared or kept."""

import re

from contract.errors import InvalidAeTitle

MAX_AE_TITLE_LENGTH = 16
# The default character repertoire without control characters and without backslash.
_AE_TITLE = re.compile(r"[\x20-\x5b\x5d-\x7e]+", re.ASCII)


def parse_ae_title(text: str) -> str:
    """``text`` without its insignificant leading and trailing spaces.

    Raises InvalidAeTitle, whose message does not repeat the text: it came from a peer.
    """
    title = text.strip(" ")
    if not 1 <= len(title) <= MAX_AE_TITLE_LENGTH:
        raise InvalidAeTitle(f"an AE title has 1 to {MAX_AE_TITLE_LENGTH} characters")
    if not _AE_TITLE.fullmatch(title):
        raise InvalidAeTitle("an AE title is printable ASCII without backslash")
    return title
