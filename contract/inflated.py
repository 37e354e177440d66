"""The beginning of a deflated data set (PS3.5 A.5), inflated step by step, and never all of it."""

import zlib

from contract.errors import ContractError

# A header has a few kilobytes; private elements and referenced images before Series Instance UID
# make it some hundred. No more of a deflated data set is ever inflated: 284 KB can hold 604 MB.
INFLATED_PREFIX_BYTES = 4 * 1024 * 1024
# So much is inflated at once, to so much at most. It may take a millisecond, where each few bytes
# bring codes of their own.
_DEFLATED_STEP = 4 * 1024
_INFLATED_STEP = 64 * 1024
# Deflated data is longer than what it holds by 5 bytes in 64 KiB at most (RFC 1951 3.2.4).
_LONGER = 64 * 1024


class CannotInflate(ContractError):
    """The bytes are no raw deflate stream."""


class InflatedPrefix:
    """So much of a raw deflate stream as its steps have inflated so far."""

    def __init__(self) -> None:
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._taken = 0
        self._memory = memoryview(bytearray(INFLATED_PREFIX_BYTES))
        self._filled = 0

    @property
    def data(self) -> memoryview:
        """What is inflated so far."""
        return self._memory[: self._filled]

    def grow(self, deflated: memoryview) -> bool:
        """Inflate some more; whether that was possible.

        ``deflated`` begins as it did in the call before, and may have become longer. Raises
        CannotInflate.
        """
        room = min(_INFLATED_STEP, len(self._memory) - self._filled)
        if not room or self._inflater.eof:
            return False
        if self._taken - self._filled > _LONGER:
            raise CannotInflate("it is longer than what it holds")
        piece = deflated[self._taken : self._taken + _DEFLATED_STEP]
        try:
            inflated = self._inflater.decompress(piece, room)
        except zlib.error:
            raise CannotInflate("it is no deflated data") from None
        end = self._filled + len(inflated)
        self._memory[self._filled : end] = inflated
        self._filled = end
        self._taken += len(piece) - len(self._inflater.unconsumed_tail)
        return bool(piece or inflated)
