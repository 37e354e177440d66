"""What a crash test needs of a cloud, on moto or in memory: a handler there can be made to die.

Each of a handler's calls is a moment to die at: it had its effect, and nothing has come after it.
"""

import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import app
import pydicom
import pytest
from chalicelib import wiring
from chalicelib.api import resources
from chalicelib.events.event import EventType
from chalicelib.intake.adapters import SystemClock
from chalicelib.operations import setup
from chalicelib.stores.batches import BatchStore
from chalicelib.stores.instances import InstanceStore
from chalicelib.stores.jobs import JobStore
from pydicom.data import get_testdata_file
from pydicom.uid import UID
from store_scp.crc import crc64

from contract.batch_states import BatchEvent
from contract.checksums import Checksum
from contract.keys import InstanceKey, batch_prefix, manifest_key
from contract.manifest import CloseReason, Manifest, ManifestInstance, Source
from contract.metadata import Sender, Target, to_metadata
from contract.records import BatchRecord, BatchState, Counts
from local.healthimaging import Emulator, EmulatorOptions, ManualScheduler, QuotaProfile
from local.healthimaging.models import MedicalImagingBackend
from local.lambdas import event_bridge_event
from tests.pipeline.chalicelib.crash_snapshot import (
    VOLATILE,
    Json,
    comparable,
    with_ids_hidden,
    without,
)

A, B, EMPTY = (f"20261123T09300{digit}Z-0001020304050607" for digit in range(3))
OLDER = "20261123T092000Z-0001020304050607"
BUCKET, RESULTS, MACHINE = "dicom", "results", "dicom-import"
NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
CT = Path(str(get_testdata_file("CT_small.dcm", download=False))).read_bytes()


def _named(study: str, series: str, sop: str) -> bytes:
    """The same image under the UIDs that its key has."""
    data_set = pydicom.dcmread(BytesIO(CT))
    data_set.StudyInstanceUID, data_set.SeriesInstanceUID = study, series
    data_set.SOPInstanceUID = data_set.file_meta.MediaStorageSOPInstanceUID = UID(sop)
    body = BytesIO()
    data_set.save_as(body)
    return body.getvalue()


NAMED = _named("1.2", "1.2.3", "1.2.3.1")
# Between a crash and the next invocation: longer than any lock is held.
RESTART = timedelta(minutes=6)
SCHEDULED = event_bridge_event("aws.events", "Scheduled Event", {})


class Crash(BaseException):
    """The Lambda's process dies: nothing in it catches this."""


@dataclass
class Calls:
    """The calls of the handler under test, and the one that it dies at.

    A process that has died makes no further call, in a ``finally`` or in another thread.
    """

    watched: bool = False
    names: list[str] = field(default_factory=list)
    dies_at: int | None = None
    is_dead: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def asked(self, _: str) -> None:
        """Before a call."""
        if self.watched and self.is_dead:
            raise Crash

    def answered(self, name: str) -> None:
        """After a call had its effect."""
        if not self.watched:
            return
        with self._lock:
            self.names.append(name)
            if len(self.names) - 1 != self.dies_at:
                return
            self.is_dead = True
        raise Crash


def retry(batch_id: str) -> None:
    resources.retry_batch(setup.operations(), batch_id, _BECAUSE)


def release(sop_instance_uid: str) -> None:
    resources.release_instance(setup.operations(), sop_instance_uid, _BECAUSE)


_BECAUSE = json.dumps({"reason": "why"}).encode()
OPERATIONS: dict[str, Callable[[str], None]] = {"retry": retry, "release": release}


class World(ABC):
    """Everything a handler works with, at a time that the test says."""

    calls: Calls
    batches: BatchStore
    instances: InstanceStore
    jobs: JobStore
    datastore_id: str

    def __init__(self, emulator: Emulator) -> None:
        self.now = NOW
        self.calls = Calls()
        self.event_ids: set[str] = set()
        self.scheduler = ManualScheduler()
        self._emulator = emulator
        self._told: list[str] = []
        emulator.use_scheduler(self.scheduler)
        emulator.configure(EmulatorOptions(quota_profile=QuotaProfile.NONE))

    @abstractmethod
    def put(self, key: str, body: bytes, metadata: Mapping[str, str] | None = None) -> None:
        """Put an object into the DICOM bucket."""

    @abstractmethod
    def remove(self, key: str) -> None:
        """An object that is gone."""

    @abstractmethod
    def begin_upload(self, batch_id: str) -> None:
        """As a receiver that never learns the upload's id, or dies, leaves it."""

    @abstractmethod
    def read_events(self) -> Sequence[Mapping[str, Any]]:
        """What the bus was sent since the last time, with ``detail-type`` and ``detail``."""

    @abstractmethod
    def state(self) -> Json:
        """All that is kept, as it is; ``objects`` by bucket and key, each a body and metadata."""

    def put_instance(self, batch_id: str, sop: str, body: bytes = CT) -> ManifestInstance:
        key = InstanceKey(batch_id, "1.2", "1.2.3", sop)
        sender = Sender("CT1", "STORESCP", "10.0.0.1", "a1")
        metadata = to_metadata(
            key, "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1", None,
            checksum_of(body), sender, Target("study"),
        )  # fmt: skip
        self.put(str(key), body, metadata)
        return ManifestInstance(
            str(key), len(body), checksum_of(body), "1.2.840.10008.5.1.4.1.1.2",
            sop, "1.2.3", "1.2", None, "1.2.840.10008.1.2.1",
        )  # fmt: skip

    def close(self, batch_id: str, instances: Sequence[ManifestInstance]) -> None:
        """Write the manifest, as the receiver does at last."""
        source = Source("CT1", "STORESCP", ("10.0.0.1",), ("a1",))
        manifest = Manifest(batch_id, NOW, CloseReason.QUIET, source, None, tuple(instances))
        self.put(manifest_key(batch_id), manifest.to_json())

    def keep(self, batch_id: str, *events: BatchEvent) -> None:
        batch = BatchRecord(
            batch_id, BatchState.OPEN, "CT1", NOW, Counts(2), owner="task", lease_expires_at=NOW
        )
        for event in events:
            if event is not BatchEvent.OPENED:
                key = manifest_key(batch_id)
                batch = replace(batch, owner=None, lease_expires_at=None, manifest_key=key)
            assert self.batches.move(batch, event)

    def fail_next_job(self) -> None:
        options = EmulatorOptions(quota_profile=QuotaProfile.NONE, failing_jobs=1)
        self._emulator.configure(options)

    def lose_next_answer(self) -> None:
        """Of a start: HealthImaging does it, and forgets its clientToken."""
        options = EmulatorOptions(
            quota_profile=QuotaProfile.NONE, lost_answers=1, client_token_seconds=0.0
        )
        self._emulator.configure(options)

    @abstractmethod
    def remove_results(self) -> None:
        """Nothing is left in the results bucket."""

    @property
    @abstractmethod
    def healthimaging(self) -> MedicalImagingBackend:
        """The emulator's data stores."""

    def delete_image_sets(self) -> list[str]:
        """Delete every image set in HealthImaging; returns their ids."""
        backend = self.healthimaging
        ids = sorted(backend.datastore(self.datastore_id).image_sets)
        for image_set_id in ids:
            backend.delete_image_set(self.datastore_id, image_set_id)
        self.scheduler.advance(1)
        return ids

    def finish_jobs(self) -> None:
        self.scheduler.advance(60)

    @abstractmethod
    def forget_job(self, job_id: str) -> None:
        """Somebody deletes its record."""

    def invoke(self, function: str, event: Any) -> Any:
        self.calls.watched = True
        try:
            if function in OPERATIONS:
                return OPERATIONS[function](event)
            return getattr(app, function)(event, None)
        finally:
            self.calls.watched = False

    def invoke_twice_as_it_dies(self, function: str, event: Any) -> None:
        """The second time as AWS does, once the first is known to be dead."""
        with pytest.raises(Crash):
            self.invoke(function, event)
        self.calls.dies_at, self.calls.is_dead = None, False
        self.now += RESTART
        self.invoke(function, event)

    def settle(self) -> None:
        """What runs each minute anyway, once: it closes and starts what a crash kept from it."""
        self.now += RESTART
        app.collect_dropbox(SCHEDULED, None)
        app.recover_batches(SCHEDULED, None)
        app.dispatch_imports(SCHEDULED, None)
        app.announce_events(SCHEDULED, None)
        self.now += timedelta(minutes=20)  # studies are quiet by then
        app.announce_events(SCHEDULED, None)

    def events(self) -> list[str]:
        """All that were sent and not asked for yet, without the times of this run."""
        told, self._told = self._all_told(), []
        return sorted(told)

    def _all_told(self) -> list[str]:
        for event in self.read_events():
            self.event_ids.add(event["detail"]["eventId"])
            detail = without(event["detail"], VOLATILE)
            told = [EventType(event["detail-type"]), detail]
            self._told.append(json.dumps(told, sort_keys=True))
        return self._told

    def snapshot(self) -> Json:
        """All that is kept and was told, as it is."""
        return with_ids_hidden(self.state() | {"events": sorted(self._all_told())})

    def contents(self) -> Json:
        """All that is kept, without what differs between two runs that end alike."""
        return comparable(self.snapshot())


NewWorld = Callable[[], AbstractContextManager[World]]


def take_time_from(world: World, patch: pytest.MonkeyPatch) -> None:
    """The Lambdas' clocks are the world's; time passes where they sleep."""

    def sleep(_: object, seconds: float) -> None:
        world.now += timedelta(seconds=seconds)

    for module in (wiring, setup):
        patch.setattr(module, "_now", lambda: world.now)
    patch.setattr(SystemClock, "now", lambda _: world.now)
    patch.setattr(SystemClock, "sleep", sleep)


def set_environment(world: World, patch: pytest.MonkeyPatch) -> None:
    arn = f"arn:aws:states:us-east-1:123456789012:stateMachine:{MACHINE}"
    for name, value in {
        "DICOM_BUCKET": BUCKET,
        "RESULTS_BUCKET": RESULTS,
        "STATE_MACHINE_ARN": arn,
        "DATASTORE_ID": world.datastore_id,
        "DATA_ACCESS_ROLE_ARN": "arn:aws:iam::123456789012:role/import",
    }.items():
        patch.setenv(name, value)


def checksum_of(body: bytes) -> Checksum:
    """As the receiver and S3 compute it."""
    return Checksum.crc64nvme(crc64(body))


def upload_key(batch_id: str) -> str:
    """Of an upload that is open."""
    return f"{batch_prefix(batch_id)}1.2/1.2.3/1.2.3.8.dcm"
