"""What a peer has stored, hashed: the data set is what was sent, byte for byte, or it is not.

Looks at content only, so that every peer may name and nest its files as it likes.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from bench.receiver.s3_stand_in import INDEX

_READ_BYTES = 1024 * 1024
_PREAMBLE = 128
_PREFIX = b"DICM"
# File Meta Information Group Length (0002,0000): tag, VR and length, then 4 bytes (PS3.10 7.1).
_GROUP_LENGTH_AT = _PREAMBLE + len(_PREFIX) + 8
_GROUP_AT = _GROUP_LENGTH_AT + 4


def files_in(folder: Path) -> frozenset[str]:
    """The digest of each file's data set, in a directory or below it."""
    return frozenset(digest(_read(path)) for path in folder.rglob("*") if path.is_file())


def objects_in(folder: Path) -> frozenset[str]:
    """The digest of each object's data set in the stand-in's bucket."""
    return frozenset(digest(_object(folder, parts)) for parts in _objects(folder))


def count_objects(folder: Path) -> int:
    """How many instances the bucket holds."""
    return sum(1 for _ in _objects(folder))


def digest(chunks: Iterator[bytes]) -> str:
    """SHA-256 of a data set: of a Part 10 file what follows its meta information, else of all."""
    first = next(chunks, b"")
    result = hashlib.sha256(memoryview(first)[data_set_offset(first) :])
    for chunk in chunks:
        result.update(chunk)
    return result.hexdigest()


def data_set_offset(first: bytes) -> int:
    """Where the data set begins in a Part 10 file; 0 in anything else."""
    if first[_PREAMBLE : _PREAMBLE + len(_PREFIX)] != _PREFIX or len(first) < _GROUP_AT:
        return 0
    return _GROUP_AT + int.from_bytes(first[_GROUP_LENGTH_AT:_GROUP_AT], "little")


def decode_aws_chunked(body: bytes) -> Iterator[bytes]:
    """The payload of an aws-chunked body; its trailer is left out."""
    at = 0
    while (end := body.find(b"\r\n", at)) >= 0:
        size = int(body[at:end].partition(b";")[0], 16)
        if size == 0:
            return
        yield body[end + 2 : end + 2 + size]
        at = end + 2 + size + 2


def _objects(folder: Path) -> Iterator[list[tuple[str, bool]]]:
    with (folder / INDEX).open() as index:
        for line in index:
            entry = json.loads(line)
            if entry["key"].endswith(".dcm"):  # and not a batch's manifest
                yield entry["parts"]


def _object(folder: Path, parts: list[tuple[str, bool]]) -> Iterator[bytes]:
    for name, is_chunked in parts:
        if is_chunked:
            yield from decode_aws_chunked((folder / name).read_bytes())
        else:
            yield from _read(folder / name)


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_READ_BYTES):
            yield chunk
