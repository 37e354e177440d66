"""Log lines: structured, ours only, and free of anything a peer wrote.

A line carries association ids, validated AE titles, addresses, counts, names of PS3.6 and
``uid_digest``s; never a UID in clear, an attribute's value or an exception's message, since
libraries quote their input. The names in a client certificate are no text of the peer's: a CA that
the operator named in SCP_TLS_CLIENT_CA has signed them. A line has them escaped, and of a bounded
length.
"""

import logging
import sys
import threading
import traceback
from contextlib import suppress
from typing import Literal, TextIO, cast

import structlog


def configure(level: str, form: Literal["json", "console"]) -> None:
    """Send our lines to standard output, and libraries' own nowhere; for the process, once."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", _Output())),
    )
    # pynetdicom and pydicom log and warn in the peer's words; botocore logs whole requests. What
    # matters of it reaches us as an exception.
    logging.getLogger().addHandler(logging.NullHandler())
    logging.captureWarnings(True)
    threading.excepthook = _thread_died


class _Output:
    """Standard output, for lines that must not cost an image: without a reader, they are lost."""

    def write(self, text: str) -> None:
        with suppress(OSError):  # nobody reads any more; there is no place left to say so
            sys.stdout.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stdout.flush()


def describe(error: BaseException) -> str:
    """An unexpected exception's type and place, without its message."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {frames[-1].name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}"


def _thread_died(failure: threading.ExceptHookArgs) -> None:
    what = describe(failure.exc_value) if failure.exc_value else failure.exc_type.__name__
    structlog.get_logger().error("thread_failed", error=what)
