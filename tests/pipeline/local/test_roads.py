"""No S3 event arrives and nobody polls: leases and job events do it all."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from chalicelib import wiring

from local import resources
from local.cloud import Cloud
from local.follow import RestClient
from local.names import LOOPBACK
from local.roads import RELIABLE, EventFaults
from local.samples import Sample
from local.scu import send
from tests.pipeline.local.support import FAST, fresh, settle

SHORT_LEASE = {"LEASE_SECONDS": "2"}


@pytest.fixture
def deaf_cloud(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """The cloud while every event of S3's is lost, and executions look for their jobs rarely."""
    cloud.queue_road.faults = EventFaults(lost=1.0)
    # A job ends after its row is written, or its event finds nobody: then only a poll sees the end.
    cloud.emulator.configure(replace(FAST, seconds_per_job=2.0))
    monkeypatch.setenv("POLL_MIN_SECONDS", "20")
    wiring.settings.cache_clear()
    yield cloud
    resources.stop_executions()  # which still wait
    cloud.emulator.configure(FAST)
    cloud.queue_road.faults = RELIABLE
    monkeypatch.undo()
    wiring.settings.cache_clear()


def acknowledged(port: int, chosen: list[Sample]) -> set[str]:
    sent = send(chosen, LOOPBACK, port, "STORESCP")
    return {each.sample.sop_instance_uid for each in sent if each.acknowledged}


@pytest.mark.fault("events-repeated-or-lost")
def test_a_batch_whose_event_is_lost_is_found_when_its_lease_is_over(
    deaf_cloud: Cloud, rest: RestClient, tmp_path: Path
) -> None:
    with deaf_cloud.receiver("short-lease", environment=SHORT_LEASE) as receiver:
        uids = acknowledged(receiver.port, fresh(tmp_path, "CT_small.dcm"))
        ledger = settle(rest, uids)
    assert [ledger.instances[uid]["state"] for uid in uids] == ["IMPORTED"]


@pytest.mark.fault("events-repeated-or-lost")
def test_what_a_killed_receiver_acknowledged_is_imported(
    deaf_cloud: Cloud, rest: RestClient, tmp_path: Path
) -> None:
    never_quiet = {"BATCH_QUIET_SECONDS": "600", "BATCH_HELD_QUIET_SECONDS": "600"}
    with deaf_cloud.receiver("killed", environment=SHORT_LEASE | never_quiet) as receiver:
        chosen = [*fresh(tmp_path, "MR_small.dcm"), *fresh(tmp_path, "CT_small.dcm")]
        uids = acknowledged(receiver.port, chosen)
        receiver.kill()
        assert not receiver.is_running
    assert len(uids) == 2
    ledger = settle(rest, uids)
    assert {ledger.instances[uid]["state"] for uid in uids} == {"IMPORTED"}
