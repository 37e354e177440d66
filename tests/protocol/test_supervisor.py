"""The supervisor as a process of its own, with small workers that really die."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil  # type: ignore[import-untyped]
import pytest
from store_scp.supervisor import next_delay

from tests.protocol.receiver import Line, ReceiverProcess

_SCRIPT = Path(__file__).with_name("supervised.py")
_DEADLINE = 30.0


class Supervised(ReceiverProcess):
    """``supervised.py`` with two workers; the test asks for its exit code."""

    def __init__(self, behaviour: str, **environment: str) -> None:
        super().__init__(**{"SCP_WORKERS": "2", "SCP_HEALTH_PORT": "0", **environment})
        self._behaviour = behaviour

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, str(_SCRIPT), self._behaviour],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        line = self.wait_for("listening")
        self.port, self.health_port = int(line["port"]), int(line["health"])
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        family = self.family()
        self.stop()
        if kind is None:
            assert len(self.lines) == len(self.raw), self.raw
            assert not psutil.wait_procs(family, timeout=_DEADLINE)[1]

    @property
    def pid(self) -> int:
        return self._process.pid

    def family(self) -> list[psutil.Process]:
        """The supervisor's children, while there are any."""
        if self._process.poll() is not None:
            return []
        return list(psutil.Process(self.pid).children())

    def send(self, number: int) -> None:
        self._process.send_signal(number)

    def exit_code(self) -> int:
        """Without asking it to stop."""
        return self._process.wait(_DEADLINE)

    def served_by(self, worker: int, generation: int = 0) -> int:
        """The process of a worker, or of its successor, as soon as it serves."""

        def matching() -> Line | None:
            wanted = {"event": "serving", "worker": worker}.items()
            found = [each for each in self.lines if wanted <= each.items()]
            return found[generation] if len(found) > generation else None

        return int(self._wait(matching, f"worker {worker} does not serve")["pid"])

    def count(self, event: str, number: int) -> list[Line]:
        """The first lines of an event, as soon as there are so many."""

        def enough() -> Line | None:
            found = [each for each in self.lines if each["event"] == event]
            return {"found": found[:number]} if len(found) >= number else None

        found: list[Line] = self._wait(enough, f"not {number} lines {event}")["found"]
        return found

    def get(self, path: str) -> tuple[int, str]:
        connection = HTTPConnection("127.0.0.1", self.health_port, timeout=_DEADLINE)
        connection.request("GET", path)
        with connection.getresponse() as response:
            return response.status, response.read().decode()


@contextmanager
def serving(behaviour: str = "steady", **environment: str) -> Iterator[Supervised]:
    with Supervised(behaviour, **environment) as process:
        for worker in range(2):
            process.served_by(worker)
        yield process


def test_sigterm_lets_every_child_leave_and_ends_with_0() -> None:
    with serving() as process:
        assert len(process.family()) == 3
        assert process.stop() == 0
        assert process.lines[-1]["event"] == "stopping"


def test_a_killed_worker_is_told_of_and_has_a_successor_with_nothing_inherited() -> None:
    with serving() as process:
        os.kill(process.served_by(1), signal.SIGKILL)
        died = process.wait_for("worker_died", worker=1)
        assert died["signal"] == "SIGKILL"
        process.served_by(1, generation=1)
        status, text = process.get("/metrics")
        assert status == 200
        assert "store_scp_open_batches 2.0" in text
        assert 'store_scp_worker_restarts_total{worker="1"} 1.0' in text
        assert 'store_scp_worker_restarts_total{worker="0"} 0.0' in text
        assert psutil.STATUS_ZOMBIE not in [each.status() for each in process.family()]
        assert process.stop() == 0


def test_a_connection_that_waits_for_a_dead_worker_is_served_by_its_successor() -> None:
    with Supervised("late", SCP_WORKERS="1") as process:
        first = process.served_by(0)
        with socket.create_connection(("127.0.0.1", process.port), _DEADLINE) as connection:
            os.kill(first, signal.SIGKILL)
            served = int(connection.recv(20))
        assert served == process.served_by(0, generation=1)
        assert process.stop() == 0


def test_workers_that_die_young_are_started_again_ever_later() -> None:
    with Supervised("dies", SCP_WORKERS="1") as process:
        lines = process.count("worker_died", 4)
        assert [each["exit_code"] for each in lines] == [3] * 4
        assert [each["restart_in"] for each in lines] == [0.1, 0.2, 0.4, 0.8]
        assert process.stop() == 0


def test_a_child_waits_longer_with_each_early_death_and_not_at_all_after_a_long_life() -> None:
    delay, delays = 0.0, []
    for _ in range(8):
        delay = next_delay(delay, lived=1.0)
        delays.append(delay)
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert next_delay(5.0, lived=10.0) == 0.0


def test_what_a_worker_raises_is_logged_without_its_message() -> None:
    with Supervised("raises", SCP_WORKERS="1") as process:
        assert process.wait_for("worker_failed")["error"].startswith("ValueError in work")
        assert process.wait_for("worker_died")["exit_code"] == 1
        assert process.stop() == 0
        assert "never in a log" not in "".join(process.raw)


def test_a_killed_health_process_is_started_again_on_its_port() -> None:
    with serving() as process:
        workers = {process.served_by(0), process.served_by(1)}
        (health,) = [each for each in process.family() if each.pid not in workers]
        health.kill()
        assert process.wait_for("health_died")["signal"] == "SIGKILL"
        assert process.get("/health/ready")[0] == 200
        assert process.stop() == 0


def test_a_worker_that_is_stopped_is_killed_and_replaced_and_its_neighbour_is_not() -> None:
    with serving(CHECK_SECONDS="0.5") as process:
        stopped, other = process.served_by(1), process.served_by(0)
        os.kill(stopped, signal.SIGSTOP)
        line = process.wait_for("worker_stalled", worker=1)
        assert line["seconds"] == pytest.approx(2.0)
        assert process.wait_for("worker_died", worker=1)["signal"] == "SIGKILL"
        assert process.served_by(1, generation=1) != stopped
        assert other in {each.pid for each in process.family()}
        assert process.stop() == 0
        assert {each["worker"] for each in process.events("worker_stalled")} == {1}


def test_a_health_process_that_is_stopped_is_killed_and_answers_again() -> None:
    with serving(CHECK_SECONDS="0.5") as process:
        assert process.get("/health/live")[0] == 200
        workers = {process.served_by(0), process.served_by(1)}
        (health,) = [each for each in process.family() if each.pid not in workers]
        health.suspend()
        process.wait_for("health_stalled")
        assert process.wait_for("health_died")["signal"] == "SIGKILL"
        assert process.get("/health/ready")[0] == 200
        assert process.stop() == 0


def test_a_receiver_that_was_paused_as_a_whole_loses_nobody() -> None:
    with serving(CHECK_SECONDS="0.5") as process:
        assert process.get("/health/live")[0] == 200
        everybody = [psutil.Process(process.pid), *process.family()]
        for each in everybody:
            each.suspend()
        time.sleep(3.0)  # longer than a worker alone may be silent: the test's matter
        for each in everybody:
            each.resume()
        process.send(signal.SIGHUP)  # the supervisor has seen the time, and the workers answer
        process.count("reloading", 2)
        for _ in range(5):
            process.get("/health/live")
        assert process.stop() == 0
        assert not [each for each in process.lines if "stalled" in each["event"]]


def test_sighup_reaches_every_worker() -> None:
    with serving() as process:
        process.send(signal.SIGHUP)
        lines = process.count("reloading", 2)
        assert {each["worker"] for each in lines} == {0, 1}
        assert process.stop() == 0


def test_ctrl_c_reaches_the_workers_once_as_sigterm() -> None:
    with serving() as process:
        os.killpg(process.pid, signal.SIGINT)
        assert process.exit_code() == 0


def test_a_worker_without_handlers_yet_is_no_failure_at_the_end() -> None:
    with serving("deaf") as process:
        assert process.stop() == 0


def test_a_worker_that_leaves_with_an_error_makes_the_exit_code_1() -> None:
    with serving("fails") as process:
        assert process.stop() == 1
        assert {each["exit_code"] for each in process.count("worker_died", 2)} == {4}


def test_a_drain_ends_listening_and_is_told_by_the_health_process_until_the_last_left() -> None:
    with serving("lingers") as process:
        # Until it serves, the health process still has the workers' sockets open.
        process.get("/health/live")
        process.terminate()
        process.count("lingering", 2)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", process.port))
        status, text = process.get("/health/ready")
        assert (status, json.loads(text)["detail"]) == (503, "draining")
        # One that left has no heartbeat any more, and must not make the task look dead.
        os.kill(process.served_by(0), signal.SIGHUP)
        deadline = time.monotonic() + _DEADLINE
        while '"worker": 0, "state": "draining"' not in process.get("/health/live")[1]:
            assert time.monotonic() < deadline
        process.send(signal.SIGHUP)
        assert process.exit_code() == 0


def test_workers_that_stay_beyond_the_deadline_are_killed_and_the_exit_code_is_1() -> None:
    with serving("stubborn", DRAIN_SECONDS="0", WORKER_SECONDS="0.2") as process:
        assert process.stop() == 1
        process.count("worker_killed", 2)
        process.wait_for("worker_died", worker=0, signal="SIGKILL")


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_another_ctrl_c_ends_at_once(first: signal.Signals) -> None:
    with serving("stubborn", DRAIN_SECONDS="600") as process:
        process.send(first)
        process.wait_for("stopping")
        process.terminate()
        process.send(signal.SIGINT)
        assert process.exit_code() == 1


def test_no_child_outlives_a_supervisor_that_was_killed() -> None:
    with serving("stubborn") as process:
        family = process.family()
        assert len(family) == 3
        process.send(signal.SIGKILL)
        assert not psutil.wait_procs(family, timeout=_DEADLINE)[1]


@pytest.mark.alone
def test_a_supervisor_with_nothing_to_do_does_nothing() -> None:
    with serving() as process:
        watched = psutil.Process(process.pid)
        before = watched.num_ctx_switches()
        for _ in range(20):
            process.get("/health/live")
        # Twenty requests pass through the health process; a loop that polls would show.
        assert watched.num_ctx_switches().voluntary - before.voluntary < 5
        assert process.stop() == 0


def test_the_last_minute_is_told_to_cloudwatch_before_the_end() -> None:
    with Supervised("steady", SCP_EMF_NAMESPACE="StoreSCP", AE_TITLE="ARCHIVE") as process:
        process.served_by(0)
        process.served_by(1)
        assert process.get("/health/live")[0] == 200
        assert process.stop() == 0
        documents: list[dict[str, Any]] = [each for each in process.lines if "_aws" in each]
    assert len(documents) == 1
    assert documents[0]["AETitle"] == "ARCHIVE"
    assert documents[0]["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "StoreSCP"
