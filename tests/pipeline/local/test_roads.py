"""A local cloud where no S3 event arrives and nobody polls: leases and job events do it all."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from local.cloud import Cloud, CloudOptions
from local.follow import RestClient
from local.names import LOOPBACK
from local.roads import EventFaults
from local.samples import Sample, read
from local.scu import send
from tests.pipeline.local.support import FAST, settle


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    options = CloudOptions(
        emulator=FAST,
        # settle() would not wait for one poll.
        poll_seconds=60,
        lambda_settings={"START_RATE": "100", "RECOVERY_GRACE_SECONDS": "1"},
        receiver_environment={"LEASE_SECONDS": "2", "BATCH_QUIET_SECONDS": "1"},
        queue_faults=EventFaults(lost=1.0),
    )
    with Cloud(options) as running:
        yield running


def samples(*names: str) -> list[Sample]:
    return read([Path(str(get_testdata_file(name, download=False))) for name in names])


def acknowledged(port: int, chosen: list[Sample]) -> set[str]:
    sent = send(chosen, LOOPBACK, port, "STORESCP")
    return {each.sample.sop_instance_uid for each in sent if each.acknowledged}


def test_a_batch_whose_event_is_lost_is_found_when_its_lease_is_over(cloud: Cloud) -> None:
    uids = acknowledged(cloud.dicom_port, samples("CT_small.dcm"))
    ledger = settle(RestClient(cloud.rest_url), uids)
    assert [each["state"] for each in ledger.instances.values()] == ["IMPORTED"]


def test_what_a_killed_receiver_acknowledged_is_imported(cloud: Cloud) -> None:
    never_quiet = {"BATCH_QUIET_SECONDS": "600", "BATCH_HELD_QUIET_SECONDS": "600"}
    with cloud.receiver("killed", environment=never_quiet) as receiver:
        uids = acknowledged(receiver.port, samples("MR_small.dcm", "rtdose.dcm"))
        receiver.kill()
        assert not receiver.is_running
    assert len(uids) == 2
    ledger = settle(RestClient(cloud.rest_url), uids)
    assert {each["state"] for each in ledger.instances.values()} == {"IMPORTED"}
