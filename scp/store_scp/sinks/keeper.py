"""The thread that closes batches when they are due and sees to it that their manifests are written.

It is the shell around :class:`store_scp.batches.BatchBook`: it has the lock, the clocks and chance.
"""

import math
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from contract.keys import BATCH_ENTROPY_BYTES, new_batch_id
from contract.manifest import Manifest
from store_scp.batches import BatchBook, BatchLimits, Placement
from store_scp.dimse.status import Status
from store_scp.errors import StoreRefused
from store_scp.instance import Instance
from store_scp.logs import describe

# Seconds between two attempts at one manifest: doubled each time, from the first to the last.
_FIRST_RETRY = 1.0
_LAST_RETRY = 30.0

_log = structlog.get_logger()


class Keeper:
    """A batch book that all associations share; ``write`` puts a manifest into the sink."""

    def __init__(self, limits: BatchLimits, write: Callable[[Manifest], None]) -> None:
        self._book = BatchBook(limits, _new_batch_id)
        self._write = write
        self._attempts: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._wakes_at = math.inf
        self._stops_at = math.inf
        self._thread = threading.Thread(target=self._run, name="batch-keeper", daemon=True)
        self._thread.start()

    def place(self, instance: Instance) -> Placement:
        """Reserve a place; ``stored`` or ``failed`` must follow unless it is already stored."""
        with self._changed:
            if self._stops_at < math.inf:
                raise StoreRefused(Status.OUT_OF_RESOURCES, "shutting down")
            return self._book.place(instance, time.monotonic())

    def stored(self, placement: Placement) -> None:
        """The placed instance is durable."""
        with self._changed:
            self._book.stored(placement, time.monotonic())
            self._wake_if_sooner()

    def failed(self, placement: Placement) -> None:
        """The placed instance is not known to be durable."""
        with self._changed:
            self._book.failed(placement, time.monotonic())
            self._wake_if_sooner()

    def association_ended(self, association_id: str) -> None:
        """The association holds its batches no longer."""
        with self._changed:
            self._book.association_ended(association_id)
            self._wake_if_sooner()

    def close(self, seconds: float) -> None:
        """Close every batch and write every manifest, in so many seconds; log what is left."""
        with self._changed:
            self._stops_at = time.monotonic() + seconds
            self._book.close_all()
            self._changed.notify()
        self._thread.join(seconds)
        with self._changed:
            for batch_id in self._book.unwritten():
                _log.error("manifest_not_written", batch_id=batch_id)

    def _wake_if_sooner(self) -> None:
        if self._book.next_due() < self._wakes_at:
            self._changed.notify()

    def _run(self) -> None:
        while manifests := self._wait():
            for manifest in manifests:
                self._deliver(manifest)

    def _wait(self) -> tuple[Manifest, ...]:
        """The manifests that are due; empty once the keeper has to stop."""
        with self._changed:
            while True:
                manifests = self._book.due(time.monotonic(), datetime.now(UTC))
                if manifests or self._has_to_stop():
                    return manifests
                self._wakes_at = min(self._book.next_due(), self._stops_at)
                pause = self._wakes_at - time.monotonic()
                self._changed.wait(None if pause == math.inf else max(0, pause))

    def _has_to_stop(self) -> bool:
        closing = self._stops_at < math.inf
        return closing and (self._book.is_empty or time.monotonic() >= self._stops_at)

    def _deliver(self, manifest: Manifest) -> None:
        try:
            self._write(manifest)
        except StoreRefused as refused:
            self._postpone(manifest, refused.detail)
        except Exception as error:  # noqa: BLE001 - a dead keeper would never import anything again
            self._postpone(manifest, describe(error))
        else:
            self._written(manifest)

    def _written(self, manifest: Manifest) -> None:
        with self._changed:
            self._book.manifest_written(manifest.batch_id)
        del self._attempts[manifest.batch_id]
        _log.info(
            "batch_closed",
            batch_id=manifest.batch_id,
            reason=manifest.close_reason,
            instances=len(manifest.instances),
            bytes=sum(each.size for each in manifest.instances),
        )

    def _postpone(self, manifest: Manifest, why: str) -> None:
        pause = min(_FIRST_RETRY * 2 ** self._attempts[manifest.batch_id], _LAST_RETRY)
        self._attempts[manifest.batch_id] += 1
        with self._changed:
            self._book.manifest_failed(manifest.batch_id, time.monotonic() + pause)
        _log.warning("manifest_postponed", batch_id=manifest.batch_id, seconds=pause, why=why)


def _new_batch_id() -> str:
    return new_batch_id(datetime.now(UTC), os.urandom(BATCH_ENTROPY_BYTES))
