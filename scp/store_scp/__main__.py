"""``python -m store_scp``: settings from the environment, instances to the sink, until SIGTERM."""

import os
import signal
import sys
import threading

import structlog

from store_scp.errors import CannotStart, SettingsInvalid
from store_scp.logs import configure
from store_scp.server import StoreServer
from store_scp.settings import Settings
from store_scp.sinks import open_sink

# For the manifests, after DRAIN_SECONDS: together with its default below Fargate's 120 s.
_CLOSE_SECONDS = 15.0

_USAGE_ERROR = 2
_CANNOT_START = 1


def main() -> int:
    """Run the receiver; the exit code."""
    try:
        settings = Settings.from_env(os.environ)
    except SettingsInvalid as error:
        print(error, file=sys.stderr)
        return _USAGE_ERROR
    configure(settings.log_level, settings.log_format)
    try:
        run(settings)
    except CannotStart as error:
        print(error, file=sys.stderr)
        return _CANNOT_START
    return 0


def run(settings: Settings) -> None:
    """Listen until a signal asks to stop, then finish what was begun."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    log = structlog.get_logger()
    log.info("settings", **settings.model_dump(mode="json", by_alias=True))
    sink = open_sink(settings)
    server = StoreServer(settings, sink)
    log.info(
        "listening",
        ae_title=settings.ae_title,
        address=settings.bind_address,
        port=server.port,
        sink=str(sink),
    )
    stop.wait()
    # A second SIGTERM changes nothing; a second Ctrl-C is somebody who will not wait.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    log.info("stopping", drain_seconds=settings.drain_seconds)
    server.stop(settings.drain_seconds)
    sink.close(_CLOSE_SECONDS)
    log.info("stopped")


if __name__ == "__main__":
    sys.exit(main())
