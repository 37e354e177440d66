"""``python -m chalicelib.operations``: argparse, as Lambda's package has no room for click."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import structlog

from chalicelib.api.parameters import MAX_LIMIT, parse_time
from chalicelib.operations import commands
from chalicelib.operations.commands import Answer
from chalicelib.operations.failures import FAILURES, in_words
from chalicelib.stores.blocked import Work
from contract.ae_titles import parse_ae_title
from contract.errors import ContractError
from contract.records import BatchState, JobStatus

_ABOUT = "See, repeat and re-drive imports. Safe to repeat; docs/runbook.md says when to do what."
_PROGRAM = "python -m chalicelib.operations"
_STOPPED = 130  # as a shell reports Ctrl-C


def run(arguments: Sequence[str]) -> int:
    """Do what is asked, print the answer as JSON; 1 if it, or a part of it, is refused or failed.

    What an operator is to know or do next is a line on standard error.
    """
    parser = _parser()
    if any(not _is_text(each) for each in arguments):
        parser.error("an argument is no text in UTF-8")
    asked = parser.parse_args(arguments)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        answer: Answer = asked.run(asked)
    except KeyboardInterrupt:
        _failed("stopped here; run it again, what is done is found done")
        return _STOPPED
    except FAILURES as error:
        return _failed(in_words(error))
    except Exception as error:  # noqa: BLE001 - an error that nobody foresaw is a line, too
        return _failed(f"this is a fault of the program or of its settings: {in_words(error)}")
    return _show(answer)


def _show(answer: Answer) -> int:
    try:
        json.dump(answer.body, sys.stdout, indent=2)
        print(flush=True)
    except BrokenPipeError:  # what reads the answer has ended, as head does
        # https://docs.python.org/3/library/signal.html#note-on-sigpipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    for line in answer.advice:
        print(line, file=sys.stderr)
    return 0 if answer.is_good else 1


def _is_text(argument: str) -> bool:
    """The shell may give any bytes; those that are not UTF-8 come as surrogates."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        return False
    return True


def _failed(why: str) -> int:
    print(why, file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=_PROGRAM, description=_ABOUT)
    add = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_views(add)
    _add_repeats(add)
    _add_dead_letters(add)
    _command(add, "reconcile", commands.reconcile, "look for objects nobody accounts for")
    return parser


def _add_views(add: Any) -> None:
    _command(add, "batch", commands.batch, "show a batch").add_argument("batch_id")
    batches = _page(_command(add, "batches", commands.batches, "list batches, newest first"))
    batches.add_argument("--state", choices=[str(state) for state in BatchState])
    batches.add_argument("--calling-ae-title", type=_ae_title)
    job = _page(_command(add, "job", commands.job, "show an import job"))
    job.add_argument("job_id")
    job.add_argument(
        "--instances", action="store_true", help="what it did to each instance, page by page"
    )
    jobs = _page(_command(add, "jobs", commands.jobs, "list import jobs, newest first"))
    jobs.add_argument("--status", choices=[str(status) for status in JobStatus])
    jobs.add_argument("--study", metavar="UID")
    _bounds(jobs, "submitted")
    blocked = _page(_command(add, "blocked", commands.blocked, "list what cannot be handled"))
    blocked.add_argument("--work", choices=[str(work) for work in Work])
    unblock = _command(add, "unblock", commands.unblock, "have what is blocked tried again now")
    unblock.add_argument("subject", nargs="?", help="default: all, of --work if that is given")
    unblock.add_argument("--work", choices=[str(work) for work in Work])
    instance = _command(add, "instance", commands.instance, "show an instance, wherever it came in")
    _page(instance).add_argument("uid")
    _command(add, "study", commands.study, "show how far a study is").add_argument("uid")
    quarantine = _command(add, "quarantine", commands.quarantine, "list what was put aside")
    quarantine.add_argument("--prefix", default="", help="import-failed, unlisted, not-part10, ...")
    quarantine.add_argument("--limit", type=_count, default=100)
    quarantine.add_argument("--cursor", help="the nextCursor of the page before")


def _add_repeats(add: Any) -> None:
    retry = _command(
        add, "retry", commands.retry,
        "import the failed instances of a batch, or of all batches in a state, once more",
    )  # fmt: skip
    retry.add_argument("batch_id", nargs="?")
    retry.add_argument(
        "--state",
        choices=[str(state) for state in commands.RETRIABLE],
        help="all batches in this state, newest first; narrowed by the next four",
    )
    retry.add_argument("--calling-ae-title", type=_ae_title)
    _bounds(retry, "ended")
    retry.add_argument("--limit", type=_count, help="so many batches at most")
    retry.add_argument("--cursor", help="the nextCursor of the run before")
    release = _command(add, "release", commands.release, "import an instance that was put aside")
    release.add_argument("uid")
    release.add_argument("--key", help="which object: its key under instances/ or quarantine/")
    for command in (retry, release):
        _reason(command).add_argument(
            "--force",
            action="store_true",
            help="import what is imported, a duplicate, or deleted in HealthImaging, once more",
        )


def _add_dead_letters(add: Any) -> None:
    letters = _command(add, "dead-letters", commands.dead_letters, "list dead letters")
    letters.add_argument("--limit", type=_count, default=100)
    redrive = _command(
        add, "redrive", commands.redrive, "move dead letters back to the queue, but no junk"
    )
    redrive.add_argument("message_ids", nargs="*", metavar="MESSAGE_ID", help="default: all")
    redrive.add_argument("--limit", type=_count, help="so many at most; not with ids")
    discard = _command(add, "discard", commands.discard, "delete dead letters for good")
    discard.add_argument("message_ids", nargs="*", metavar="MESSAGE_ID")
    discard.add_argument("--junk", action="store_true", help="all that are no S3 event")
    _reason(discard).add_argument(
        "--force", action="store_true", help="also an S3 event, if it is named by its id"
    )


def _command(
    add: Any, name: str, function: Callable[[argparse.Namespace], Answer], text: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = add.add_parser(name, help=text, description=text)
    parser.set_defaults(run=function, parser=parser)
    return parser


def _page(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("--limit", type=_page_size, default=20, metavar=f"1-{MAX_LIMIT}")
    parser.add_argument("--cursor", help="the nextCursor of the page before")
    return parser


def _bounds(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        "--since", type=_time, metavar="TIME", help=f"{what} then or later, ISO 8601"
    )
    parser.add_argument(
        "--until", type=_time, metavar="TIME", help=f"{what} then or earlier, ISO 8601"
    )


def _reason(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("--reason", required=True, help="kept; no patient data")
    return parser


def _count(text: str) -> int:
    return _number(text, sys.maxsize, "at least 1")


def _page_size(text: str) -> int:
    return _number(text, MAX_LIMIT, f"from 1 to {MAX_LIMIT}")


def _number(text: str, most: int, bounds: str) -> int:
    # int() takes its time over a million digits, and takes "1_0" and other scripts' digits.
    digits = text.isascii() and text.isdigit() and len(text) <= len(str(most))
    if not digits or not 1 <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"must be a whole number, {bounds}")
    return int(text)


def _time(text: str) -> datetime:
    try:
        return parse_time(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be {error}") from None


def _ae_title(text: str) -> str:
    try:
        return parse_ae_title(text)
    except ContractError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
