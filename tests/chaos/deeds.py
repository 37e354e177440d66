"""What people do to the data, past the product: objects are archived, image sets are deleted."""

from contextlib import suppress

import boto3
from moto.s3.models import FakeKey, s3_backends

from contract.keys import INSTANCES_PREFIX, QUARANTINE_PREFIX
from local import names
from local.healthimaging.errors import ConflictException
from local.healthimaging.models import medicalimaging_backends
from tests.chaos.outages import Outages
from tests.chaos.weather import drawn

_ARCHIVED, _RESTORED = "GLACIER", "STANDARD"
_ARCHIVED_SHARE, _RESTORED_SHARE, _DELETED_SHARE = 0.15, 0.5, 0.15
_STOPPED_SHARE = 0.9


class Archive:
    """Objects in a storage class in which nobody can read or copy them, as a lifecycle rule does.

    On AWS the transition leaves key, bytes and date as they are, which a copy onto itself does not,
    so this is done to moto's own objects.
    """

    def __init__(self, aws_url: str) -> None:
        self._s3 = boto3.client("s3", endpoint_url=aws_url)
        self._archived: list[FakeKey] = []
        self.outages = Outages()

    def fill(self, seed: str) -> None:
        """Archive some of the instances that are there, imported or not, or put aside."""
        for prefix in (INSTANCES_PREFIX, QUARANTINE_PREFIX):
            pages = self._s3.get_paginator("list_objects_v2").paginate(
                Bucket=names.DICOM_BUCKET, Prefix=prefix
            )
            keys = [each["Key"] for page in pages for each in page.get("Contents", ())]
            for key in keys:
                if drawn(seed, key) < _ARCHIVED_SHARE:
                    self.add(key)

    def add(self, key: str) -> None:
        """Archive an object, if it is there."""
        backend = s3_backends[names.ACCOUNT_ID][names.PARTITION]
        if found := backend.get_object(names.DICOM_BUCKET, key):
            found.set_storage_class(_ARCHIVED)
            self._archived.append(found)
            self.outages.begin(id(found), frozenset({key}).__contains__)

    def thin(self, seed: str) -> None:
        """Restore some: the others stay until :meth:`empty`."""
        draw = f"{seed}/restored"  # another one than decided what is archived
        self._restore([each for each in self._archived if drawn(draw, each.name) < _RESTORED_SHARE])

    def empty(self) -> int:
        """Restore all; returns how many there were."""
        count = len(self._archived)
        self._restore(list(self._archived))
        return count

    def _restore(self, objects: list[FakeKey]) -> None:
        for each in objects:
            each.set_storage_class(_RESTORED)
            self._archived.remove(each)
            self.outages.end(id(each))


def stop_executions(aws_url: str, seed: str) -> int:
    """Stop some of the executions that run, as somebody does by hand; returns how many."""
    client = boto3.client("stepfunctions", endpoint_url=aws_url)
    pages = client.get_paginator("list_executions").paginate(
        stateMachineArn=names.STATE_MACHINE_ARN, statusFilter="RUNNING"
    )
    running = [each["executionArn"] for page in pages for each in page["executions"]]
    chosen = [arn for arn in running if drawn(seed, arn) < _STOPPED_SHARE]
    for arn in chosen:
        client.stop_execution(executionArn=arn, cause="chaos")
    return len(chosen)


def delete_image_sets(seed: str) -> int:
    """Begin to delete some of the image sets that there are; returns how many."""
    backend = medicalimaging_backends[names.ACCOUNT_ID][names.REGION]
    deleted = 0
    for datastore in backend.datastores(None):
        for image_set_id in list(datastore.image_sets):
            if drawn(seed, image_set_id) < _DELETED_SHARE:
                with suppress(ConflictException):  # it is being deleted
                    backend.delete_image_set(datastore.datastore_id, image_set_id)
                    deleted += 1
    return deleted
