"""The real Store SCP as a process of its own, as the container runs it."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

REPOSITORY = Path(__file__).parents[2]
_DEADLINE = 30.0

# Planted by the tests wherever a peer can write text; in no log line of any test may it appear.
PLANTED = "DOE^JANE"

Line = dict[str, Any]


class ReceiverProcess:
    """Starts the receiver, follows its log, and stops it with SIGTERM.

    At the end every line has to be one JSON object, and none may repeat what a peer wrote.
    """

    def __init__(self, **environment: str) -> None:
        known = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self._environment = {
            **known,
            "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'scp'}",
            "SCP_BIND_ADDRESS": "127.0.0.1",
            "SCP_PORT": "0",
            "LOG_LEVEL": "DEBUG",
            "DRAIN_SECONDS": "5",
            **environment,
        }
        self.lines: list[Line] = []
        self.raw: list[str] = []
        self._ended = False
        self._changed = threading.Condition()

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "store_scp"],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.port = int(self.wait_for("listening")["port"])
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
            assert PLANTED not in "".join(self.raw)
            assert len(self.lines) == len(self.raw), self.raw

    def stop(self) -> int:
        """SIGTERM, and the exit code once it is gone."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(_DEADLINE)
        finally:
            self._process.kill()
            self._reader.join()

    def terminate(self) -> None:
        """SIGTERM, without waiting."""
        self._process.send_signal(signal.SIGTERM)

    def wait_for(self, event: str, **members: object) -> Line:
        """The first line of an event with these members, as soon as it is logged."""

        def matching() -> Line | None:
            wanted = {"event": event, **members}.items()
            return next((each for each in self.lines if wanted <= each.items()), None)

        return self._wait(matching, f"no line {event} {members}")

    def _wait(self, find: Callable[[], Line | None], complaint: str) -> Line:
        with self._changed:
            self._changed.wait_for(lambda: self._ended or find(), _DEADLINE)
            found = find()
        assert found is not None, f"{complaint} in {self.raw}"
        return found

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
