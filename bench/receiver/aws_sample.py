"""The AWS sample's way to S3: decode, acknowledge, encode again, and upload from a thread pool.

Written from its description: a pynetdicom handler answers success at once, and an executor calls
``save_as`` into memory and boto3's ``put_object``. So an acknowledged image can still be lost.
"""

import argparse
import functools
import io
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from pydicom.dataset import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, evt

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_SUCCESS = 0x0000
_POOL_CONNECTIONS = 50  # the reference product's MAX_POOL_CONNECTIONS
_ASSOCIATIONS = 300  # and its MAXIMUM_ASSOCIATIONS


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--bucket", required=True)
    options = parser.parse_args()
    client = boto3.client("s3", config=Config(max_pool_connections=_POOL_CONNECTIONS))
    upload = functools.partial(_upload, client, options.bucket)
    entity = AE("STORESCP")
    entity.supported_contexts = AllStoragePresentationContexts
    entity.maximum_associations = _ASSOCIATIONS
    entity.maximum_pdu_size = 0  # and its MAXIMUM_PDU_SIZE
    with ThreadPoolExecutor() as pool:

        def store(event: evt.Event) -> int:
            data_set = event.dataset
            data_set.file_meta = event.file_meta
            pool.submit(upload, data_set)
            return _SUCCESS

        entity.start_server(("127.0.0.1", options.port), evt_handlers=[(evt.EVT_C_STORE, store)])


def _upload(client: "S3Client", bucket: str, data_set: Dataset) -> None:
    body = io.BytesIO()
    data_set.save_as(body, enforce_file_format=True)
    client.put_object(Bucket=bucket, Key=f"{data_set.SOPInstanceUID}.dcm", Body=body.getvalue())


if __name__ == "__main__":
    main()
