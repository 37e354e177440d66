"""An asynchronous client of one S3 bucket: only what storing objects needs, at little cost each.

The way of one object: ``bucket`` → ``requests`` says it as HTTP → ``sigv4`` signs it → ``pool`` has
a ``connection`` → ``answers`` judges the response → ``retries`` says whether to try again.
"""

from store_scp.s3.bucket import S3Bucket, UploadStats
from store_scp.s3.endpoint import Endpoint, endpoint_of
from store_scp.s3.errors import AlreadyExists
from store_scp.s3.requests import ObjectRequest, PartReceipt

__all__ = [
    "AlreadyExists",
    "Endpoint",
    "ObjectRequest",
    "PartReceipt",
    "S3Bucket",
    "UploadStats",
    "endpoint_of",
]
