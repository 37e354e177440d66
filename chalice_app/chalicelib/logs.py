"""Structured log lines: an event, ids and digests. Never a UID in clear, patient data or raw text.

AWS Lambda ships whatever is printed; one JSON object a line is what CloudWatch can query.
"""

import hashlib
import logging
import re

import structlog

from chalicelib.settings import LogSettings
from contract.errors import InvalidKey
from contract.keys import key_digest, parse_manifest_key

# Batch ids, digests, and the keys of events.
_PLAIN = re.compile(r"[0-9A-Za-z:-]+", re.ASCII)


def configure(settings: LogSettings) -> None:
    """Set structlog up for this process; calling it again changes nothing but the settings."""
    renderers: list[structlog.typing.Processor] = (
        [structlog.processors.JSONRenderer()]
        if settings.log_format == "json"
        else [structlog.dev.ConsoleRenderer(colors=False)]
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[settings.log_level]
        ),
    )


def named(subject: str) -> str:
    """A subject as a log line may have it: itself if it is an id or a digest, else its SHA-256.

    A study's subject is its UID, which no log may have.
    """
    if _PLAIN.fullmatch(subject):
        return subject
    return hashlib.sha256(subject.encode("utf-8", "surrogatepass")).hexdigest()


def describe(error: BaseException) -> dict[str, str]:
    """What a log line may tell of an unexpected error: its type and where it was raised.

    Not its message: a KeyError's is the key, a ValueError's often the value.
    """
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    where = "" if frame is None else f"{frame.tb_frame.f_code.co_qualname}:{frame.tb_lineno}"
    return {"error": type(error).__name__, "where": where}


def manifest_named(key: str) -> dict[str, str]:
    """What a log line may tell of the key of what should be a manifest.

    The batch's id, if it has the key of a manifest; the digest of any other key, which whoever
    writes to the bucket or to the queue has chosen.
    """
    try:
        return {"batch_id": parse_manifest_key(key)}
    except InvalidKey:
        return {"key_digest": key_digest(key)}
