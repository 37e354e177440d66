"""Where instances become durable: an S3 bucket, or a directory."""

from typing import Protocol

from store_scp.instance import Instance
from store_scp.settings import Settings
from store_scp.sinks.directory import DirectorySink
from store_scp.sinks.s3 import S3Sink


class Sink(Protocol):
    """What the receiver asks of a place to store; used by many threads at once."""

    def store(self, instance: Instance) -> None:
        """Return only once the instance is durable; raise StoreRefused if it may not be."""
        ...

    def association_ended(self, association_id: str) -> None:
        """No more instances come from this association."""
        ...

    def close(self, seconds: float) -> None:
        """Finish what is begun, within so many seconds; nothing is stored after this."""
        ...


def open_sink(settings: Settings) -> Sink:
    """The sink that the settings name; raises CannotStart."""
    if settings.dicom_bucket is None:
        return DirectorySink(settings.storage_dir)
    return S3Sink.open(settings, settings.dicom_bucket)
