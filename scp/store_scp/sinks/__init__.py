"""Where instances become durable: an S3 bucket, or a directory."""

from store_scp.clocks import ServerClock
from store_scp.s3 import Endpoint, endpoint_of
from store_scp.settings import Settings
from store_scp.sinks.directory import DirectorySink, prepare_directory
from store_scp.sinks.s3 import S3Sink
from store_scp.sinks.sink import Kept, LargeObject, Meter, Sink

__all__ = ["Kept", "LargeObject", "Meter", "Sink", "open_sink", "prepare_sink"]


def prepare_sink(settings: Settings) -> Endpoint | None:
    """What is done once, before any worker opens the sink; raises CannotStart."""
    if settings.dicom_bucket is not None:
        return endpoint_of(settings.dicom_bucket)
    prepare_directory(settings.storage_dir)
    return None


def open_sink(
    settings: Settings, endpoint: Endpoint | None, meter: Meter, clock: ServerClock
) -> Sink:
    """The sink that was prepared, in the running loop; a directory needs no ``clock``."""
    if settings.dicom_bucket is None or endpoint is None:
        return DirectorySink(settings.storage_dir, meter, fsync=settings.storage_fsync)
    return S3Sink.open(settings, settings.dicom_bucket, endpoint, meter, clock)
