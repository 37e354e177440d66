"""The first moments of the process, until the supervisor waits for signals: one ends it at once.

There is nothing to finish yet. Without a handler, SIGTERM would end it with another exit code, and
as process 1 of a container it would not end at all (pid_namespaces(7)).

It imports nothing of the product's and of its libraries, so that those moments are few.
"""

import json
import os
import signal
import sys
from datetime import UTC, datetime
from types import FrameType
from typing import NoReturn


def leave_on_signals() -> None:
    """SIGTERM and SIGINT end the process with 0 and a line; SIGHUP waits for the supervisor."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)


def _leave(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    # It may have interrupted a library half way, or a line; so nothing of theirs is used.
    name = signal.Signals(number).name
    now = datetime.now(UTC).replace(tzinfo=None).isoformat() + "Z"
    if os.environ.get("LOG_FORMAT") == "console":
        line = f"{now} [info] stopped_at_start signal={name}"
    else:
        event = {"signal": name, "event": "stopped_at_start", "level": "info", "timestamp": now}
        line = json.dumps(event)
    try:
        os.write(sys.stdout.fileno(), f"{line}\n".encode())
    finally:
        os._exit(0)
