"""A checksum that names its algorithm, as S3 does: ``SHA256:<base64>``."""

import base64
import binascii
import hashlib
from dataclasses import dataclass
from enum import StrEnum

from contract.errors import InvalidChecksum


class ChecksumAlgorithm(StrEnum):
    """The algorithms S3 verifies on a PUT, under S3's own names.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
    """

    SHA256 = "SHA256"
    CRC64NVME = "CRC64NVME"
    CRC32C = "CRC32C"


_DIGEST_BYTES = {
    ChecksumAlgorithm.SHA256: 32,
    ChecksumAlgorithm.CRC64NVME: 8,
    ChecksumAlgorithm.CRC32C: 4,
}


@dataclass(frozen=True, slots=True)
class Checksum:
    """One object's checksum; equal values mean equal bytes as far as the algorithm can tell."""

    algorithm: ChecksumAlgorithm
    base64: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.base64}"

    @classmethod
    def parse(cls, text: str) -> "Checksum":
        """The inverse of ``str``; raises InvalidChecksum."""
        name, _, digest = text.partition(":")
        try:
            algorithm = ChecksumAlgorithm(name)
            raw = base64.b64decode(digest, validate=True)
        except (ValueError, binascii.Error):
            raise InvalidChecksum("not a checksum (ALGORITHM:base64)") from None
        if len(raw) != _DIGEST_BYTES[algorithm]:
            raise InvalidChecksum(f"a {algorithm} checksum has {_DIGEST_BYTES[algorithm]} bytes")
        # Encoded anew: base64 can spell one value in several ways, and checksums are compared.
        return cls(algorithm, base64.b64encode(raw).decode("ascii"))

    @classmethod
    def sha256(cls, digest: bytes) -> "Checksum":
        """From a raw SHA-256 digest of 32 bytes."""
        return cls(ChecksumAlgorithm.SHA256, base64.b64encode(digest).decode("ascii"))

    @classmethod
    def crc64nvme(cls, value: int) -> "Checksum":
        """From the number a CRC-64/NVME is."""
        return cls(
            ChecksumAlgorithm.CRC64NVME, base64.b64encode(value.to_bytes(8, "big")).decode("ascii")
        )

    @classmethod
    def of(cls, data: bytes) -> "Checksum":
        """The SHA-256 of ``data``."""
        return cls.sha256(hashlib.sha256(data).digest())
