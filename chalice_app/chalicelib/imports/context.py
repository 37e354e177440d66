"""What every step of an import works with."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from chalicelib.imports.healthimaging import ImportService
from chalicelib.settings import ImportSettings
from chalicelib.stores import Stores
from chalicelib.stores import instances as ledger
from chalicelib.stores.files import Files, exists
from contract.records import InstanceRecord


@dataclass(frozen=True, slots=True)
class ImportContext:
    """Records, DICOM and results bucket, HealthImaging, settings and time of one invocation."""

    stores: Stores
    files: Files
    results: Files
    service: ImportService
    settings: ImportSettings
    now: datetime

    def record(
        self, batch_id: str, rows: Sequence[InstanceRecord], *, adds: bool = True
    ) -> list[InstanceRecord]:
        """Keep what became of a batch's instances (``stores.instances.record``)."""
        store = self.stores.instances
        return ledger.record(store, batch_id, rows, lambda key: exists(key, self.files), adds=adds)

    def record_missing(self, batch_id: str, rows: Sequence[InstanceRecord]) -> list[InstanceRecord]:
        """The same of instances whose objects are gone before their import."""
        return ledger.record(self.stores.instances, batch_id, rows, lambda _: True)
