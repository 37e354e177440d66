"""HealthImaging's import jobs on the virtual clock, behind the emulator's quotas."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from bench.pipeline.assumptions import ImportDuration
from bench.pipeline.clock import VirtualClock
from bench.pipeline.service import ImportJobs, Job, Load

SLOW = ImportDuration(seconds_per_job=1_000.0, seconds_per_file=0.0)


class World:
    def __init__(self, load: Load = Load(10, 5_000_000)) -> None:  # noqa: B008
        self.clock = VirtualClock()
        self.ended: list[Job] = []
        self.jobs = ImportJobs(self.clock, SLOW, lambda _: load, self.ended.append)

    def start(self, token: str) -> str:
        answer: dict[str, Any] = self.jobs.start_dicom_import_job(
            clientToken=token, outputS3Uri="s3://results/"
        )
        return str(answer["jobId"])


def code(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


def test_two_jobs_start_at_once_and_a_third_is_throttled() -> None:
    world = World()
    world.start("a")
    world.start("b")
    with pytest.raises(ClientError) as error:
        world.start("c")
    assert code(error) == "ThrottlingException"
    # boto3's client has called twice.
    assert world.jobs.throttled["StartDICOMImportJob"] == 2
    world.clock.sleep(1.0)
    world.start("c")
    assert world.jobs.started == 3


def test_the_hundred_and_first_at_once_is_over_the_quota() -> None:
    world = World()
    for number in range(100):
        world.start(str(number))
        world.clock.sleep(1.0)
    with pytest.raises(ClientError) as error:
        world.start("one more")
    assert code(error) == "ServiceQuotaExceededException"
    assert (world.jobs.most_live, world.jobs.over_quota) == (100, 1)


def test_a_repeated_token_finds_its_job() -> None:
    world = World()
    assert world.start("a") == world.start("a")
    assert world.jobs.started == 1


@pytest.mark.parametrize(
    ("load", "status"),
    [
        (Load(5_000, 1_000_000_000), "COMPLETED"),
        (Load(5_001, 1_000_000_000), "FAILED"),
        (Load(4_000, 11_000_000_000), "FAILED"),
    ],
)
def test_a_job_ends_as_the_emulators_limits_say(load: Load, status: str) -> None:
    world = World(load)
    job_id = world.start("a")
    assert world.jobs.live_job(job_id)
    world.clock.sleep(1_000.0)
    assert [job.status for job in world.ended] == [status]
    assert not world.jobs.live_job(job_id)
