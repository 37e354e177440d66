"""Other bytes with a checksum that is known: what anybody can send who wants to be mistaken."""

from awscrt.checksums import crc64nvme

_BITS = 64


def forged(body: bytes, like: bytes) -> bytes:
    """``body`` with its last eight bytes chosen so that its CRC-64/NVME is that of ``like``.

    A CRC is affine in the bits of equally long messages: each of the last 64 flips a known set of
    the checksum's bits, so the ones to flip are the solution of 64 linear equations.
    """
    before = crc64nvme(body[:-8])
    empty = crc64nvme(bytes(8), before)
    # By its highest bit: a sum of flips, and which of the last 64 bits it is the sum of.
    basis: dict[int, tuple[int, int]] = {}
    for bit in range(_BITS):
        flips = crc64nvme((1 << bit).to_bytes(8), before) ^ empty
        flips, bits = _reduced(flips, 1 << bit, basis)
        basis[flips.bit_length()] = flips, bits
    rest, bits = _reduced(crc64nvme(like) ^ empty, 0, basis)
    assert not rest
    found = body[:-8] + bits.to_bytes(8)
    assert crc64nvme(found) == crc64nvme(like)
    return found


def _reduced(flips: int, bits: int, basis: dict[int, tuple[int, int]]) -> tuple[int, int]:
    while flips and flips.bit_length() in basis:
        known, sums = basis[flips.bit_length()]
        flips, bits = flips ^ known, bits ^ sums
    return flips, bits
