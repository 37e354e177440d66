"""The real Store SCP as a process of its own, as the container runs it."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
import threading
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil  # type: ignore[import-untyped]
from prometheus_client.parser import text_string_to_metric_families

REPOSITORY = Path(__file__).parents[2]
_DEADLINE = 30.0
_POLL = 0.001

# What a receiver can import: this checkout, and no package that its image does not have.
PYTHON_PATH = ":".join(
    str(each) for each in (Path(__file__).with_name("image"), REPOSITORY, REPOSITORY / "scp")
)

# Planted by the tests wherever a peer can write text; in no log line of any test may it appear.
PLANTED = "DOE^JANE"
# Planted everywhere at once by test_confidentiality.py: a name, what would be a line of its own,
# and a UID.
PLANTED_EVERYWHERE = ("ROE^RICHARD", "FORGED", "1.2.826.0.1.3680043.8.498.4711")

Line = dict[str, Any]


class ReceiverProcess:
    """Starts the receiver, follows its log, and stops it with SIGTERM.

    At the end every line has to be one JSON object, and none may repeat what a peer wrote.
    """

    module = "store_scp"

    def __init__(self, *prefix: str, **environment: str) -> None:
        """``prefix``: a command that runs the receiver, such as ``unshare ...``."""
        known = {
            name: os.environ[name]
            for name in os.environ
            if name in ("PATH", "HOME") or name.startswith("COVERAGE_")
        }
        self._command: Sequence[str] = [*prefix, sys.executable, "-m", self.module]
        self._environment = {
            **known,
            "PYTHONPATH": PYTHON_PATH,
            "SCP_BIND_ADDRESS": "127.0.0.1",
            "SCP_PORT": "0",
            "SCP_HEALTH_PORT": "0",
            "SCP_WORKERS": "1",
            "LOG_LEVEL": "DEBUG",
            "DRAIN_SECONDS": "5",
            **environment,
        }
        self.storage = Path(self._environment.get("STORAGE_DIR", "/nowhere"))
        self.lines: list[Line] = []
        self.raw: list[str] = []
        self._first = 0
        self._workers: list[psutil.Process] = []
        self._ended = False
        self._terminated = False
        self._changed = threading.Condition()

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            listening = self.wait_for("listening")
        except BaseException:
            self.stop()
            raise
        self.port = int(listening["port"] or 0)
        self.tls_port = int(listening["tls_port"] or 0)
        self.health_port = int(listening["health_port"])
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        code = self.stop()
        if kind is None:
            assert code == 0, self.raw
            log = "".join(self.raw)
            assert not [each for each in (PLANTED, *PLANTED_EVERYWHERE) if each in log]
            assert len(self.lines) == len(self.raw), self.raw

    @property
    def pid(self) -> int:
        """The supervisor's process."""
        return self._process.pid

    @contextmanager
    def unread(self) -> Iterator[tuple[int, subprocess.Popen[str]]]:
        """Another run of it, whose log nobody reads any more once it listens; its port."""
        with subprocess.Popen(
            self._command, env=self._environment, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            lines = (json.loads(line) for line in process.stdout)
            port = next(each["port"] for each in lines if each["event"] == "listening")
            process.stdout.close()
            try:
                yield int(port), process
            finally:
                process.kill()

    def stop(self) -> int:
        """SIGTERM, and the exit code once it is gone."""
        self.terminate()
        try:
            return self._process.wait(_DEADLINE)
        finally:
            self._process.kill()
            self._reader.join()

    def terminate(self) -> None:
        """SIGTERM, without waiting; once, as a container's runtime does it."""
        if not self._terminated and self._process.poll() is None:
            self._terminated = True
            self._process.send_signal(signal.SIGTERM)

    def reload(self) -> None:
        """SIGHUP, without waiting."""
        self._process.send_signal(signal.SIGHUP)

    def workers(self) -> list[psutil.Process]:
        """The processes that listen for DICOM, the supervisor aside."""
        known = [each for each in self._workers if each.is_running()]
        if len(known) == int(self._environment["SCP_WORKERS"]):
            return known
        ports = {self.port, self.tls_port} - {0}
        self._workers = [
            child
            for child in psutil.Process(self.pid).children()
            if _is_worker({each.laddr.port for each in child.net_connections("tcp")}, ports, self)
        ]
        return self._workers

    def worker_of(self, peer_port: int) -> psutil.Process:
        """The worker that has the other end of a test's connection."""
        for worker in self.workers():
            connections = worker.net_connections("tcp")
            if peer_port in {each.raddr.port for each in connections if each.raddr}:
                return worker
        raise LookupError(peer_port)

    def states(self) -> list[str]:
        """What the workers say of themselves."""
        answer = json.loads(self.answer("/health/live"))
        return [each["state"] for each in answer["workers"]]

    def metrics(self) -> dict[str, float]:
        """Every number of /metrics by name and labels: ``name{outcome=released}``."""
        return {
            _named(sample.name, sample.labels): sample.value
            for family in text_string_to_metric_families(self.answer("/metrics"))
            for sample in family.samples
        }

    def answer(self, path: str) -> str:
        """What the health process answers."""
        connection = HTTPConnection("127.0.0.1", self.health_port, timeout=_DEADLINE)
        connection.request("GET", path)
        with connection.getresponse() as response:
            return response.read().decode()

    def forget(self) -> None:
        """Let ``wait_for`` and ``events`` find only lines that are written from now on."""
        seen = -1
        while self._unread_bytes() or seen != len(self.raw):
            seen = len(self.raw)
            time.sleep(_POLL)
        self._first = len(self.lines)

    def wait_for(self, event: str, **members: object) -> Line:
        """The first line of an event with these members, as soon as it is logged."""

        def matching() -> Line | None:
            return next(iter(self.events(event, **members)), None)

        return self._wait(matching, f"no line {event} {members}")

    def events(self, event: str, **members: object) -> list[Line]:
        """The lines of an event with these members, so far."""
        wanted = {"event": event, **members}.items()
        return [each for each in self.lines[self._first :] if wanted <= each.items()]

    def _wait(self, find: Callable[[], Line | None], complaint: str) -> Line:
        with self._changed:
            self._changed.wait_for(lambda: self._ended or find(), _DEADLINE)
            found = find()
        assert found is not None, f"{complaint} in {self.raw}"
        return found

    def _unread_bytes(self) -> int:
        assert self._process.stdout is not None
        size = array("i", [0])
        fcntl.ioctl(self._process.stdout, termios.FIONREAD, size)
        return size[0]

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            for line in stream:
                self._add(line)
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _add(self, line: str) -> None:
        with self._changed:
            self.raw.append(line)
            if line.startswith("{"):
                self.lines.append(hashable(json.loads(line)))
            self._changed.notify_all()


def _is_worker(open_ports: set[int], ports: set[int], process: "ReceiverProcess") -> bool:
    """A child that has only just been forked still has everybody's sockets."""
    return bool(ports & open_ports) and process.health_port not in open_ports


def hashable(line: Mapping[str, Any]) -> Line:
    """Lists as tuples, so that lines compare by their items."""
    return {name: tuple(v) if isinstance(v, list) else v for name, v in line.items()}


def run_to_exit(**environment: str) -> subprocess.CompletedProcess[str]:
    """A receiver that is expected to refuse to start."""
    return subprocess.run(
        [sys.executable, "-m", "store_scp"],
        env=ReceiverProcess(**environment)._environment,
        capture_output=True,
        text=True,
        timeout=_DEADLINE,
        check=False,
    )


def _named(name: str, labels: Mapping[str, str]) -> str:
    inner = ",".join(f"{label}={value}" for label, value in labels.items())
    return name.removeprefix("store_scp_") + (f"{{{inner}}}" if inner else "")
