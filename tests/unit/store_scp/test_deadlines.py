"""The end of a receiver fits into what Fargate allows, and each part of it into the whole."""

from store_scp import health, worker
from store_scp.deadlines import ABORT_SECONDS, CLOSE_SECONDS, HEALTH_SECONDS, WORKER_SECONDS
from store_scp.settings import Settings

FARGATE_SECONDS = 120


def test_the_default_drain_and_all_that_follows_end_before_fargate_kills() -> None:
    drain = Settings.from_env({}).drain_seconds
    assert drain + WORKER_SECONDS + HEALTH_SECONDS < FARGATE_SECONDS


def test_the_supervisor_waits_longer_than_a_worker_needs_for_peers_and_manifests() -> None:
    assert ABORT_SECONDS + CLOSE_SECONDS < WORKER_SECONDS


def test_a_worker_is_called_silent_only_after_many_beats_that_did_not_come() -> None:
    assert health._BEAT_SECONDS >= 40 * worker.TICK_SECONDS
