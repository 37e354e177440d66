"""The first second of a receiver: a signal at any moment of it, and what is left behind."""

import itertools
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from tests.protocol.fake_s3 import CREDENTIALS
from tests.protocol.receiver import ReceiverProcess
from tests.protocol.vitals import until

_DEADLINE = 30.0


@contextmanager
def starting(**environment: str) -> Iterator[subprocess.Popen[str]]:
    """A receiver that has only just begun: it has a handler for SIGTERM, and no more perhaps."""
    settings = {**ReceiverProcess(**environment)._environment, "SCP_WORKERS": "2"}
    with subprocess.Popen(
        [sys.executable, "-m", "store_scp"],
        env=settings,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            until(lambda: catches_sigterm(process.pid), "no handler for SIGTERM")
            yield process
        finally:
            process.kill()


def catches_sigterm(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    (caught,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) & 1 << (signal.SIGTERM - 1))


def session(leader: int) -> list[int]:
    """The processes that are left of a receiver's session, zombies aside."""
    found = []
    for each in psutil.process_iter(["pid", "status"]):
        try:
            if os.getsid(each.pid) == leader and each.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(each.pid)
        except ProcessLookupError:
            pass
    return found


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@pytest.fixture
def hanging(silent: socket.socket) -> dict[str, str]:
    """What keeps the search for the S3 endpoint waiting: EC2's metadata service does not answer."""
    return {
        **CREDENTIALS,
        "DICOM_BUCKET": "bucket",
        "AWS_DEFAULTS_MODE": "auto",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}",
        "AWS_METADATA_SERVICE_TIMEOUT": "600",
    }


@pytest.mark.fault("killed-or-stopped")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_no_process_of_the_start_outlives_the_receiver(
    hanging: dict[str, str], number: signal.Signals
) -> None:
    with starting(**hanging) as process:
        receiver = psutil.Process(process.pid)
        until(lambda: bool(receiver.children()), "no process of the start")
        # To the process alone, as a container's runtime sends it; Ctrl-C goes to the whole group.
        (os.killpg if number is signal.SIGINT else os.kill)(process.pid, number)
        code = process.wait(_DEADLINE)
        until(lambda: not session(process.pid), "an orphan is left")
        assert process.stdout is not None
        lines = [json.loads(line) for line in process.stdout]
    assert code == (-signal.SIGKILL if number is signal.SIGKILL else 0)
    told = [each["signal"] for each in lines if each["event"] == "stopped_at_start"]
    assert told == ([] if number is signal.SIGKILL else [number.name])


@pytest.mark.fault("killed-or-stopped")
@pytest.mark.parametrize("seconds", [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0])
def test_sigterm_at_any_moment_of_the_start_is_a_clean_end(seconds: float) -> None:
    bucket = {**CREDENTIALS, "DICOM_BUCKET": "bucket", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    with starting(**bucket) as process:
        time.sleep(seconds)  # the moment is the test's matter
        process.send_signal(signal.SIGTERM)
        assert process.wait(_DEADLINE) == 0
        until(lambda: not session(process.pid), "an orphan is left")
        assert process.stdout is not None
        last = json.loads(list(process.stdout)[-1])
    assert last["event"] in ("stopped_at_start", "stopped")


def test_the_line_of_an_early_end_is_for_people_in_the_console_format() -> None:
    with starting(LOG_FORMAT="console") as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(_DEADLINE) == 0
        assert process.stdout is not None
        assert process.stdout.read().endswith(" [info] stopped_at_start signal=SIGTERM\n")


def test_sighup_during_the_start_is_a_reload_once_it_runs(
    hanging: dict[str, str], silent: socket.socket, tmp_path: Path
) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('[[ae]]\nname = "all"\n')
    with starting(**hanging, SCP_POLICY=str(policy)) as process:
        connection, _ = silent.accept()  # the policy was read before
        policy.write_text("no policy")
        process.send_signal(signal.SIGHUP)
        silent.close()
        connection.close()
        assert process.stdout is not None
        events = [json.loads(line)["event"] for line in itertools.islice(process.stdout, 3)]
        assert events == ["settings", "listening", "reload_failed"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(_DEADLINE) == 0


def test_each_process_may_have_as_many_descriptors_as_the_system_allows(tmp_path: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    low = min(hard, 512) - 1
    limited = ["sh", "-c", f'ulimit -S -n {low} && exec "$@"', "sh"]
    with ReceiverProcess(*limited, STORAGE_DIR=str(tmp_path)) as process:
        until(lambda: bool(process.workers()), "no worker")
        limits = process.workers()[0].rlimit(psutil.RLIMIT_NOFILE)
        assert limits == (hard, hard)
        line = process.wait_for("listening")
    assert line["open_files"] == (None if hard == resource.RLIM_INFINITY else hard)
