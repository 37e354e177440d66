"""What is kept: jobs, batches and instances in DynamoDB, objects in S3, and in-memory twins."""

from dataclasses import dataclass

from chalicelib.stores.batches import BatchStore
from chalicelib.stores.blocked import BlockedStore
from chalicelib.stores.image_sets import ImageSetStore
from chalicelib.stores.instances import InstanceStore
from chalicelib.stores.jobs import JobStore
from chalicelib.stores.objects import ObjectStore
from chalicelib.stores.studies import StudyStore


@dataclass(frozen=True, slots=True)
class Stores:
    """All of them, as an import and the REST API need them."""

    objects: ObjectStore
    jobs: JobStore
    batches: BatchStore
    instances: InstanceStore
    studies: StudyStore
    image_sets: ImageSetStore
    blocked: BlockedStore
