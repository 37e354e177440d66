"""How many instances stand in the local DICOM bucket, without listing them over HTTP."""

from moto.s3.models import s3_backends

from contract.keys import INSTANCES_PREFIX
from local import names


def count_stored() -> int:
    """The instances whose PUT has succeeded since the local cloud started.

    Zero while the bucket is not there, which a user of the local AWS may delete.
    """
    buckets = s3_backends[names.ACCOUNT_ID][names.PARTITION].buckets
    bucket = buckets.get(names.DICOM_BUCKET)
    keys = list(bucket.keys) if bucket else []
    return sum(key.startswith(INSTANCES_PREFIX) for key in keys)
