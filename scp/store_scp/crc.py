"""CRC-64/NVME, the checksum S3 verifies over whole objects, at memory speed."""

from typing import cast

from awscrt.checksums import crc64nvme


def crc64(data: memoryview | bytes, previous: int = 0) -> int:
    """The checksum of ``data``, or of what ``previous`` is the checksum of with it behind."""
    # Any buffer will do, whatever the library's annotation says.
    return int(crc64nvme(cast("bytes", data), previous))
