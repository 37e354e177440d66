"""Calls the emulator by boto3 and holds its answers against botocore's own shapes."""

import re
from pathlib import Path
from typing import Any

import boto3
import pytest
import urllib3
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.model import ListShape, MapShape, Shape, StringShape, StructureShape
from pydicom.data import get_testdata_file

from local.healthimaging import EmulatorOptions, ManualScheduler, QuotaProfile

FAST = EmulatorOptions(quota_profile=QuotaProfile.NONE, seconds_per_job=0.0)
ROLE = "arn:aws:iam::123456789012:role/import"


def conforms(value: Any, shape: Shape, where: str = "answer") -> None:
    """Fails unless ``value`` has the shape's required members, types, enums and patterns."""
    if isinstance(shape, StructureShape):
        missing = set(shape.required_members) - value.keys()
        assert not missing, f"{where} lacks {missing}"
        for name in value.keys() - {"ResponseMetadata"}:
            conforms(value[name], shape.members[name], f"{where}.{name}")
    elif isinstance(shape, ListShape):
        for each in value:
            conforms(each, shape.member, f"{where}[]")
    elif isinstance(shape, MapShape):
        for each in value.values():
            conforms(each, shape.value, f"{where}{{}}")
    elif isinstance(shape, StringShape):
        assert not shape.enum or value in shape.enum, f"{where} is {value}"
        pattern = shape.metadata.get("pattern")
        if pattern and "\\p" not in pattern:  # Python's re knows no Unicode categories
            assert re.fullmatch(pattern, value), f"{where} is {value}"


class Caller:
    """Calls an operation and checks its answer's shape."""

    def __init__(self, endpoint: str) -> None:
        self.clock = ManualScheduler()
        session = boto3.Session("a", "b", region_name="us-east-1")
        config = Config(inject_host_prefix=False, retries={"total_max_attempts": 1})
        self.client: Any = session.client("medical-imaging", endpoint_url=endpoint, config=config)
        self.s3 = session.client("s3", endpoint_url=endpoint)

    def __call__(self, operation: str, **arguments: Any) -> dict[str, Any]:
        answer: dict[str, Any] = getattr(self.client, operation)(**arguments)
        name = self.client.meta.method_to_api_mapping[operation]
        conforms(answer, self.client.meta.service_model.operation_model(name).output_shape)
        return answer

    def reset(self) -> None:
        """Forget everything, as moto does when it is asked to."""
        urllib3.request("POST", f"{self.s3.meta.endpoint_url}/moto-api/reset")

    def put(self, key: str, name: str, storage_class: Any = "STANDARD") -> None:
        path = Path(str(get_testdata_file(name, download=False)))
        self.s3.put_object(
            Bucket="input", Key=key, Body=path.read_bytes(), StorageClass=storage_class
        )

    def import_all(self, datastore: str, prefix: str, token: str) -> dict[str, Any]:
        """Start a job over ``prefix`` and return its properties once it has ended."""
        started = self.start(datastore, prefix, token)
        self.clock.advance(1)
        job = self("get_dicom_import_job", datastoreId=datastore, jobId=started["jobId"])
        properties: dict[str, Any] = job["jobProperties"]
        assert properties["jobStatus"] in ("COMPLETED", "FAILED")
        return properties

    def start(self, datastore: str, prefix: str, token: str, **more: str) -> dict[str, Any]:
        arguments = {
            "datastoreId": datastore,
            "clientToken": token,
            "jobName": token,
            "dataAccessRoleArn": ROLE,
            "inputS3Uri": f"s3://input/{prefix}",
            "outputS3Uri": "s3://output/results/",
        }
        return self("start_dicom_import_job", **(arguments | more))

    def result(self, job: dict[str, Any], name: str) -> bytes:
        key = job["outputS3Uri"].removeprefix("s3://output/") + name
        return bytes(self.s3.get_object(Bucket="output", Key=key)["Body"].read())


def refusal(error: pytest.ExceptionInfo[ClientError]) -> tuple[str, int]:
    response = error.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]
