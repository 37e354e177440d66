"""The Store SCP as a child process: the container's own code, pointed at the local cloud."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Self

from chalicelib.settings import TableSettings

from local import names
from local.environment import without_real_aws
from local.errors import LocalCloudError

_START_SECONDS = 30.0
_STOP_SECONDS = 30.0
_LAST_LINES = 20


class Receiver:
    """Starts ``python -m store_scp`` and stops it with SIGTERM, so that it closes its batches."""

    def __init__(self, environment: Mapping[str, str], log_file: Path, port: int) -> None:
        self._environment = without_real_aws(os.environ) | {
            "LOG_FORMAT": "json",
            "DICOM_BUCKET": names.DICOM_BUCKET,
            "SCP_BIND_ADDRESS": names.LOOPBACK,
            "SCP_PORT": str(port),
            "SCP_HEALTH_PORT": "0",
            "BATCH_TABLE": TableSettings().batch_table,
            # A minute on AWS. Here nobody wants to wait that long for a killed receiver's images.
            "LEASE_SECONDS": "10",
            "PYTHONUNBUFFERED": "1",
            **environment,
        }
        self._log_file = log_file
        self._last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._settled = threading.Event()  # it listens, or it ended
        self.port = 0

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "store_scp"],
            cwd=names.REPOSITORY,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            # Ctrl-C is for the parent, which stops the receiver before the cloud it needs.
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name="receiver-log", daemon=True)
        self._reader.start()
        try:
            self._settled.wait(_START_SECONDS)
            if not self.port:
                raise LocalCloudError(f"The Store SCP did not start. {self._complaint()}")
        except BaseException:  # Ctrl-C included: no receiver is left behind
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    @property
    def pid(self) -> int:
        """Its first process, and the group of all of them."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End all its processes at once, as when a task's machine is gone."""
        with suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join()

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()

    def _read(self) -> None:
        stream = self._process.stdout
        if stream is None:
            return
        with self._log_file.open("w") as log, stream:
            self._copy(stream, log)
        self._settled.set()

    def _copy(self, stream: IO[str], log: IO[str]) -> None:
        for line in stream:
            log.write(line)
            log.flush()
            self._last_lines.append(line.strip())
            if not self.port:
                self._look_for_port(line)

    def _look_for_port(self, line: str) -> None:
        try:
            entry = json.loads(line)
        except ValueError:
            return
        if isinstance(entry, dict) and entry.get("event") == "listening":
            self.port = int(entry["port"])
            self._settled.set()

    def _complaint(self) -> str:
        return self._last_lines[-1] if self._last_lines else "It said nothing."
