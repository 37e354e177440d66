"""Instances as files: ``<Study>/<Series>/<SOP Instance UID>.dcm`` under one directory.

A name appears only once its file is complete and on disk, and is never written over.

Bytes go into the system's cache as they arrive, which does not wait for the disk before the disk
is more than busy, and then it is everybody's. What does wait for it, the flush, is a thread's.
"""

import asyncio
import errno
import hashlib
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import structlog

from contract.uids import uid_digest
from store_scp.dimse.status import Status
from store_scp.errors import StoreRefused
from store_scp.instance import Content, Instance
from store_scp.metrics import Counter, Gauge
from store_scp.sinks.incoming import Directory, Incoming, word
from store_scp.sinks.sink import Kept, LargeObject, Meter

# What a disk can usefully have in its queue; more only wait in threads instead of in order.
_THREADS = 8
# Conditions that pass, or that an operator lifts without touching the receiver.
_OUT_OF_RESOURCES = frozenset(
    {
        errno.EDQUOT,
        errno.EFBIG,
        errno.EIO,
        errno.EMFILE,
        errno.EROFS,
        errno.ENFILE,
        errno.ENOENT,
        errno.ENOMEM,
        errno.ENOSPC,
        errno.ENOTDIR,
        errno.ESTALE,
    }
)
_COMPARE_BYTES = 1024 * 1024
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
_MODE = 0o640

_log = structlog.get_logger()


class DirectorySink:
    """One worker's way into the directory."""

    streams = True

    def __init__(self, directory: Directory, meter: Meter, *, fsync: bool) -> None:
        self._root = str(directory.root)
        self._meter = meter
        self._fsync = fsync
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="disk")
        self._incoming = Incoming(directory, self._threads)

    def __str__(self) -> str:
        return self._root

    @property
    def trouble(self) -> str | None:
        """Why the directory takes no files now."""
        return self._incoming.trouble

    async def store(self, instance: Instance, content: Content) -> Kept:
        """Write, flush to disk, then give the file its name."""
        file = self.stream(instance)
        try:
            file.append(content.body)
        except StoreRefused:
            file.discard()
            raise
        return await file.commit()

    def stream(self, instance: Instance) -> "_File":
        """A file that grows as its instance arrives."""
        try:
            return _File(self, instance, self._incoming.partial())
        except FileNotFoundError:
            self._incoming.renew()
        except OSError as error:
            raise _taken_later(error) from None
        try:
            return _File(self, instance, self._incoming.partial())
        except OSError as error:
            raise _taken_later(error) from None

    async def begin(self, instance: Instance) -> LargeObject:  # noqa: ARG002
        """Nothing comes in blocks where everything is streamed."""
        raise StoreRefused(Status.PROCESSING_FAILURE, f"{self} takes no blocks")

    def association_ended(self, association_id: str) -> None:
        """Nothing to do: every file stands for itself."""

    async def close(self, seconds: float) -> None:  # noqa: ARG002
        """Nothing to do but to end the threads: every stored file is on disk already."""
        self._threads.shutdown()
        self._incoming.close()

    async def durable(self, publish: Callable[[], Kept], instance: Instance) -> Kept:
        """Run the last step of storing one instance, and count it.

        In a thread if it waits for the disk: it flushes, or compares with what has the name.
        """
        began = time.monotonic()
        self._meter.adjust(Gauge.UPLOADS_IN_FLIGHT, 1)
        try:
            waits = self._fsync or os.path.exists(self._name(instance))  # noqa: PTH110 - as unlink
            kept = await self._threaded(publish) if waits else publish()
        except OSError as error:
            self._meter.add(Counter.UPLOADS_FAILED)
            raise _refused(error) from None
        finally:
            self._meter.adjust(Gauge.UPLOADS_IN_FLIGHT, -1)
        self._meter.add(Counter.UPLOADS_OK)
        self._meter.observe_upload(time.monotonic() - began)
        return kept

    async def _threaded(self, publish: Callable[[], Kept]) -> Kept:
        """In a thread, and to its end even if the caller is cancelled: it owns the file."""
        running = asyncio.get_running_loop().run_in_executor(self._threads, publish)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait([running])
            raise

    def flush(self, descriptor: int) -> None:
        """Wait for the disk, if that is wanted."""
        if self._fsync:
            os.fsync(descriptor)

    def publish(self, temporary: str, instance: Instance) -> Kept:
        """Give a complete file its name, unless the same bytes have it."""
        name = self._name(instance)
        series = os.path.dirname(name)  # noqa: PTH120 - as unlink
        kept = Kept.NEW
        if not self._named(temporary, name, series):
            same = _same_bytes(temporary, name)
            kept = Kept.REPEATED if same else self._keep_beside(temporary, name, instance)
        self._sync_directory(series)
        return kept

    def _name(self, instance: Instance) -> str:
        header = instance.header
        series = f"{self._root}/{header.study_instance_uid}/{header.series_instance_uid}"
        return f"{series}/{header.sop_instance_uid}.dcm"

    def _named(self, source: str, name: str, series: str) -> bool:
        """Give a file its name; False if the name is taken."""
        try:
            return _link(source, name)
        except FileNotFoundError:  # the first of its series
            study = os.path.dirname(series)  # noqa: PTH120 - as unlink
            for folder in (study, series):  # never the root: its disk may be gone
                Path(folder).mkdir(exist_ok=True)
            self._sync_directory(study)
            self._sync_directory(self._root)
            return _link(source, name)

    def _keep_beside(self, temporary: str, name: str, instance: Instance) -> Kept:
        """Other bytes under a known UID: all are kept, each but the first under its SHA-256."""
        with Path(temporary).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        beside = f"{name.removesuffix('.dcm')}.{digest}.dcm"
        if not _link(temporary, beside):
            if not _same_bytes(temporary, beside):
                # the stored file is damaged, and files are never overwritten
                raise FileExistsError(errno.EEXIST, "damaged", beside)
            return Kept.REPEATED
        _log.warning(
            "instance_conflict",
            why="other bytes under a known SOP Instance UID: both are kept",
            association_id=instance.sender.association_id,
            sop_instance=uid_digest(instance.header.sop_instance_uid),
        )
        return Kept.NEW

    def _sync_directory(self, path: str) -> None:
        if not self._fsync:
            return
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class _File:
    """One instance on its way to its name."""

    def __init__(self, sink: DirectorySink, instance: Instance, temporary: str) -> None:
        self._sink = sink
        self._instance = instance
        self._temporary = temporary
        self._gone = False
        self._descriptor: int | None = os.open(temporary, _FLAGS, _MODE)

    def append(self, data: memoryview) -> None:
        """Write into the system's cache."""
        assert self._descriptor is not None  # noqa: S101 - until commit or discard
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError as error:
            raise _taken_later(error) from None

    async def commit(self) -> Kept:
        """Flush, and give the file its name."""
        return await self._sink.durable(self._publish, self._instance)

    def discard(self) -> None:
        """Close and remove what has no name."""
        if self._gone:
            return
        self._gone = True
        self._close()
        with suppress(FileNotFoundError):
            os.unlink(self._temporary)  # noqa: PTH108 - pathlib takes ten times as long

    def _publish(self) -> Kept:
        try:
            if self._descriptor is not None:
                self._sink.flush(self._descriptor)
            self._close()
            return self._sink.publish(self._temporary, self._instance)
        finally:
            self.discard()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def _link(source: str, name: str) -> bool:
    """False if the name is taken; unlike a rename, this never replaces."""
    try:
        os.link(source, name)
    except FileExistsError:
        return False
    return True


def _same_bytes(one: str, other: str) -> bool:
    with Path(one).open("rb") as a, Path(other).open("rb") as b:
        while (chunk := a.read(_COMPARE_BYTES)) == b.read(_COMPARE_BYTES):
            if not chunk:
                return True
    return False


def _refused(error: OSError) -> StoreRefused:
    resources = error.errno in _OUT_OF_RESOURCES
    status = Status.OUT_OF_RESOURCES if resources else Status.PROCESSING_FAILURE
    return StoreRefused(status, word(error))


def _taken_later(error: OSError) -> StoreRefused:
    """The directory takes no files at all, whatever the reason: it is no matter of this one."""
    return StoreRefused(Status.OUT_OF_RESOURCES, word(error))
