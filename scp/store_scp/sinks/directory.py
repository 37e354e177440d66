"""Instances as files: ``<Study>/<Series>/<SOP Instance UID>.dcm`` under one directory.

A name appears only once its file is complete and on disk, and is never written over.
"""

import base64
import errno
import os
import uuid
from pathlib import Path

import structlog

from contract.uids import uid_digest
from store_scp.dimse.status import Status
from store_scp.errors import CannotStart, StoreRefused
from store_scp.instance import Instance

_INCOMING = ".incoming"
# Conditions that pass, or that an operator lifts without touching the receiver.
_OUT_OF_RESOURCES = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE}
)
_COMPARE_BYTES = 1024 * 1024
_DIGEST_HEX = 16

_log = structlog.get_logger()


class DirectorySink:
    """One receiver's directory; what a crashed run left unfinished in it is removed first."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._incoming = root / _INCOMING
        try:
            self._incoming.mkdir(parents=True, exist_ok=True)
            for leftover in self._incoming.iterdir():
                leftover.unlink()
        except OSError as error:
            raise CannotStart(f"STORAGE_DIR={root}: {os.strerror(error.errno or 0)}") from None

    def __str__(self) -> str:
        return str(self._root)

    def store(self, instance: Instance) -> None:
        """Write, flush to disk, then give the file its name."""
        temporary = self._incoming / uuid.uuid4().hex
        try:
            _write(temporary, instance)
            self._publish(temporary, instance)
        except OSError as error:
            raise _refused(error) from None
        finally:
            temporary.unlink(missing_ok=True)

    def association_ended(self, association_id: str) -> None:
        """Nothing to do: every file stands for itself."""

    def close(self, seconds: float) -> None:
        """Nothing to do: every stored file is on disk already."""

    def _publish(self, temporary: Path, instance: Instance) -> None:
        header = instance.header
        series = self._root / header.study_instance_uid / header.series_instance_uid
        self._make(series)
        name = series / f"{header.sop_instance_uid}.dcm"
        if not _link(temporary, name) and not _same_bytes(temporary, name):
            self._keep_beside(temporary, name, instance)
        _sync_directory(series)

    def _keep_beside(self, temporary: Path, name: Path, instance: Instance) -> None:
        """Other bytes under a known UID: both are kept, the second under its digest."""
        digest = base64.b64decode(instance.checksum.base64).hex()[:_DIGEST_HEX]
        _link(temporary, name.with_suffix(f".{digest}.dcm"))
        _log.warning(
            "instance_conflict",
            association_id=instance.sender.association_id,
            sop_instance=uid_digest(instance.header.sop_instance_uid),
        )

    def _make(self, series: Path) -> None:
        if not series.is_dir():
            series.mkdir(parents=True, exist_ok=True)
            _sync_directory(series.parent)
            _sync_directory(self._root)


def _write(path: Path, instance: Instance) -> None:
    with path.open("xb") as file:
        file.write(instance.file_meta)
        file.write(instance.data_set)
        file.flush()
        os.fsync(file.fileno())


def _link(source: Path, name: Path) -> bool:
    """Give a file its name; False if the name is taken. Unlike a rename, never replaces."""
    try:
        os.link(source, name)
    except FileExistsError:
        return False
    return True


def _same_bytes(one: Path, other: Path) -> bool:
    with one.open("rb") as a, other.open("rb") as b:
        while (chunk := a.read(_COMPARE_BYTES)) == b.read(_COMPARE_BYTES):
            if not chunk:
                return True
    return False


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refused(error: OSError) -> StoreRefused:
    resources = error.errno in _OUT_OF_RESOURCES
    status = Status.OUT_OF_RESOURCES if resources else Status.PROCESSING_FAILURE
    return StoreRefused(status, errno.errorcode.get(error.errno or 0, "OSError"))
