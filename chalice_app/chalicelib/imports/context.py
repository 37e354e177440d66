"""What every step of an import works with."""

from dataclasses import dataclass
from datetime import datetime

from chalicelib.imports.healthimaging import ImportService
from chalicelib.settings import ImportSettings
from chalicelib.stores import Stores
from chalicelib.stores.files import Files


@dataclass(frozen=True, slots=True)
class ImportContext:
    """Records, DICOM and results bucket, HealthImaging, settings and time of one invocation."""

    stores: Stores
    files: Files
    results: Files
    service: ImportService
    settings: ImportSettings
    now: datetime
