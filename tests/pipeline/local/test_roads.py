"""No S3 event arrives and nobody polls: leases and job events do it all."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from chalicelib import wiring

from local import resources
from local.cloud import Cloud
from local.files import Sample
from local.follow import Ledger, RestClient
from local.healthimaging import ManualScheduler
from local.healthimaging.scheduler import ThreadScheduler
from local.names import LOOPBACK
from local.roads import RELIABLE, EventFaults
from local.scu import send
from tests.pipeline.local.support import fresh, settle, until

SHORT_LEASE = {"LEASE_SECONDS": "2"}


@pytest.fixture
def jobs_clock(cloud: Cloud) -> Iterator[ManualScheduler]:
    """HealthImaging's clock: no job ends until the test moves it."""
    clock = ManualScheduler(time.time())
    cloud.emulator.use_scheduler(clock)
    yield clock
    cloud.emulator.use_scheduler(ThreadScheduler())


@pytest.fixture
def eventless_cloud(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """The cloud while every event of S3's is lost, and no execution looks for its job in time."""
    cloud.queue_road.faults = EventFaults(lost=1.0)
    # settle() would not wait for one poll.
    monkeypatch.setenv("POLL_MIN_SECONDS", "60")
    wiring.settings.cache_clear()
    yield cloud
    resources.stop_executions()  # which still wait
    cloud.queue_road.faults = RELIABLE
    monkeypatch.undo()
    wiring.settings.cache_clear()


def acknowledged(port: int, chosen: list[Sample]) -> set[str]:
    sent = send(chosen, LOOPBACK, port, "STORESCP")
    return {each.sample.sop_instance_uid for each in sent if each.acknowledged}


def end_jobs(clock: ManualScheduler, rest: RestClient, uids: set[str]) -> Ledger:
    """Let the jobs end once their rows are written: an event of an earlier end finds nobody."""

    def written() -> bool:
        rows = {job["jobId"] for job in rest.jobs()}
        return all(
            known and all(row.get("jobId") in rows for row in known)
            for known in map(rest.rows, uids)
        )

    until(written)
    clock.advance(60)
    return settle(rest, uids)


@pytest.mark.fault("events-repeated-or-lost")
def test_a_batch_whose_event_is_lost_is_found_when_its_lease_is_over(
    eventless_cloud: Cloud, jobs_clock: ManualScheduler, rest: RestClient, tmp_path: Path
) -> None:
    with eventless_cloud.receiver("short-lease", environment=SHORT_LEASE) as receiver:
        uids = acknowledged(receiver.port, fresh(tmp_path, "CT_small.dcm"))
        ledger = end_jobs(jobs_clock, rest, uids)
    assert [ledger.instances[uid]["state"] for uid in uids] == ["IMPORTED"]


@pytest.mark.fault("events-repeated-or-lost")
def test_what_a_killed_receiver_acknowledged_is_imported(
    eventless_cloud: Cloud, jobs_clock: ManualScheduler, rest: RestClient, tmp_path: Path
) -> None:
    never_quiet = {"BATCH_QUIET_SECONDS": "600", "BATCH_HELD_QUIET_SECONDS": "600"}
    with eventless_cloud.receiver("killed", environment=SHORT_LEASE | never_quiet) as receiver:
        chosen = [*fresh(tmp_path, "MR_small.dcm"), *fresh(tmp_path, "CT_small.dcm")]
        uids = acknowledged(receiver.port, chosen)
        receiver.kill()
        assert not receiver.is_running
    assert len(uids) == 2
    ledger = end_jobs(jobs_clock, rest, uids)
    assert {ledger.instances[uid]["state"] for uid in uids} == {"IMPORTED"}
