"""What a test leaves behind in the local cloud that it shares: only instances that have ended."""

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self

import boto3
import psutil  # type: ignore[import-untyped]

from contract.errors import ProductError
from contract.keys import INSTANCES_PREFIX, InstanceKey
from local import names
from local.cloud import Cloud
from local.healthimaging import EmulatorOptions
from local.roads import RELIABLE
from tests.chaos.evidence import Witness

# For so long nothing may have changed. An execution waits for a second between two polls; a busy
# machine may need minutes for the events of a hundred batches, but ends one after the other.
_PATIENCE_SECONDS = 30.0
_POLL = 0.2
# In which pytest and the mutants' plugin say which test runs.
_TOLD_BY_TESTS = ("PYTEST_CURRENT_TEST", "COVERAGE_PROCESS_CONFIG")


@dataclass(frozen=True, slots=True)
class Base:
    """The cloud when no test has used it."""

    witness: Witness
    emulator: EmulatorOptions
    environment: Mapping[str, str]
    processes: frozenset[int]

    @classmethod
    def of(cls, cloud: Cloud) -> Self:
        witness = Witness.of(cloud.aws_url)
        return cls(witness, cloud.emulator.options, _environment(), _processes())


def assert_back_to(base: Base, cloud: Cloud) -> None:
    """Wait until nothing is on its way; everything else has to be as it was."""
    changed_at, last = time.monotonic(), dict[str, int]()
    while unfinished := base.witness.unfinished():
        if unfinished != last:
            changed_at, last = time.monotonic(), unfinished
        assert time.monotonic() - changed_at < _PATIENCE_SECONDS, f"never ended: {unfinished}"
        time.sleep(_POLL)
    differences = list(_differences(base, cloud))
    assert not differences, differences


def _differences(base: Base, cloud: Cloud) -> Iterator[str]:
    if cloud.emulator.options != base.emulator or cloud.emulator.is_throttling():
        yield f"emulator: {cloud.emulator.options}"
    if {cloud.queue_road.faults, cloud.event_road.faults} != {RELIABLE}:
        yield "events may be lost"
    if _environment() != base.environment:
        yield "environment"
    if _processes() != base.processes:
        yield "processes"
    s3 = base.witness.s3
    for bucket in (names.DICOM_BUCKET, names.RESULTS_BUCKET):
        for upload in s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []):
            yield f"open upload: {upload['Key']}"
    for each in boto3.resource("s3").Bucket(names.DICOM_BUCKET).objects.all():
        if each.key.startswith(INSTANCES_PREFIX) and not _is_instance(each.key):
            yield f"no instance, and HealthImaging would import it: {each.key}"


def _is_instance(key: str) -> bool:
    try:
        InstanceKey.parse(key)
    except ProductError:
        return False
    return True


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _TOLD_BY_TESTS}


def _processes() -> frozenset[int]:
    """The receiver's first: each further receiver has been stopped."""
    return frozenset(each.pid for each in psutil.Process().children())
