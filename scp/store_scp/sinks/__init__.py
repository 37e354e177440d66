"""Where instances become durable: an S3 bucket, or a directory."""

from store_scp.clocks import ServerClock
from store_scp.s3 import Endpoint, endpoint_of
from store_scp.settings import Settings
from store_scp.sinks.directory import DirectorySink
from store_scp.sinks.incoming import Directory, prepare_directory
from store_scp.sinks.s3 import S3Sink
from store_scp.sinks.sink import Kept, LargeObject, Meter, Sink

__all__ = ["Directory", "Kept", "LargeObject", "Meter", "Sink", "open_sink", "prepare_sink"]


def prepare_sink(settings: Settings) -> Endpoint | Directory:
    """What is done once, before any worker opens the sink; raises CannotStart."""
    if settings.dicom_bucket is not None:
        return endpoint_of(settings.dicom_bucket)
    return prepare_directory(settings.storage_dir)


def open_sink(
    settings: Settings, place: Endpoint | Directory, meter: Meter, clock: ServerClock
) -> Sink:
    """The sink that was prepared, in the running loop; a directory needs no ``clock``."""
    if isinstance(place, Directory):
        return DirectorySink(place, meter, fsync=settings.storage_fsync)
    assert settings.dicom_bucket is not None  # noqa: S101 - only a bucket has an endpoint
    return S3Sink.open(settings, settings.dicom_bucket, place, meter, clock)
