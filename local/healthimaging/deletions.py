"""An image set's way from ACTIVE over LOCKED to DELETED, in steps the scheduler runs.

https://docs.aws.amazon.com/healthimaging/latest/devguide/delete-image-set.html
"""

import threading
from dataclasses import replace
from functools import partial

from local.healthimaging.emulator import Emulator
from local.healthimaging.errors import ConflictException
from local.healthimaging.events import deletion_event
from local.healthimaging.image_sets import ImageSet, ImageSetState
from local.healthimaging.records import Datastore


class ImageSetDeletions:
    """Deletes the image sets of one backend. ``lock`` guards every data store's contents."""

    def __init__(self, emulator: Emulator, lock: threading.RLock) -> None:
        self._emulator = emulator
        self._lock = lock
        self._closed = False

    def begin(self, datastore: Datastore, image_set: ImageSet) -> ImageSet:
        """Lock an image set; it is gone after ``seconds_per_deletion``. Call it under the lock."""
        if image_set.state is not ImageSetState.ACTIVE:
            raise ConflictException(f"Image set {image_set.image_set_id} is being deleted")
        scheduler, options = self._emulator.scheduler, self._emulator.options
        now = scheduler.now()
        locked = replace(image_set, state=ImageSetState.LOCKED, locked_at=now)
        datastore.image_sets = {**datastore.image_sets, image_set.image_set_id: locked}
        self._tell(datastore, locked)
        due = now + options.seconds_per_deletion
        scheduler.at(due, partial(self._end, datastore, locked))
        return locked

    def close(self) -> None:
        """Let no deletion end any more."""
        self._closed = True

    def _end(self, datastore: Datastore, locked: ImageSet) -> None:
        if self._closed:
            return
        now = self._emulator.scheduler.now()
        deleted = replace(locked, state=ImageSetState.DELETED, deleted_at=now)
        with self._lock:
            left = dict(datastore.image_sets)
            del left[locked.image_set_id]
            datastore.image_sets = left
            datastore.deleted_image_sets[locked.image_set_id] = deleted
        self._tell(datastore, deleted)

    def _tell(self, datastore: Datastore, image_set: ImageSet) -> None:
        event = deletion_event(datastore.datastore_id, image_set)
        self._emulator.tell(*event, datastore.arn_of(image_set))
