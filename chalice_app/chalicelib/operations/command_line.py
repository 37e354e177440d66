"""``python -m chalicelib.operations``: argparse, as Lambda's package has no room for click."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from itertools import islice
from typing import Any

import structlog

from chalicelib import aws, wiring
from chalicelib.api import resources
from chalicelib.api.parameters import MAX_LIMIT
from chalicelib.operations import setup
from chalicelib.operations.dead_letters import redrive
from chalicelib.operations.reconcile import reconcile
from chalicelib.settings import DeadLetterSettings
from contract.errors import ProductError
from contract.keys import QUARANTINE_PREFIX
from contract.records import BatchState
from contract.times import to_iso

Json = dict[str, Any]
_ABOUT = (
    "See, repeat and re-drive imports. Safe to repeat; docs/operations.md says when to do what."
)


def run(arguments: Sequence[str]) -> int:
    """Do what is asked, print the answer as JSON; 1 if it is refused or failed."""
    asked = _parser().parse_args(arguments)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        answer = asked.run(asked)
    except ProductError as error:
        print(error, file=sys.stderr)
        return 1
    json.dump(answer, sys.stdout, indent=2)
    print()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m chalicelib.operations", description=_ABOUT)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    batch = _command(commands, "batch", _batch, "show a batch")
    batch.add_argument("batch_id")
    batches = _command(commands, "batches", _batches, "list batches, newest first")
    batches.add_argument("--state", choices=[str(state) for state in BatchState])
    batches.add_argument("--calling-ae-title")
    batches.add_argument("--limit", type=int, default=20, metavar=f"1-{MAX_LIMIT}")
    instance = _command(commands, "instance", _instance, "show an instance, wherever it came in")
    instance.add_argument("uid")
    instance.add_argument("--limit", type=int, default=20, metavar=f"1-{MAX_LIMIT}")
    study = _command(commands, "study", _study, "show how far a study is")
    study.add_argument("uid")
    quarantine = _command(commands, "quarantine", _quarantine, "list what was put aside")
    quarantine.add_argument("--prefix", default="", help="import-failed, unlisted, not-part10, ...")
    quarantine.add_argument("--limit", type=int, default=100)
    retry = _command(commands, "retry", _retry, "import a batch's failed instances once more")
    retry.add_argument("batch_id")
    release = _command(commands, "release", _release, "import an instance that was put aside")
    release.add_argument("uid")
    release.add_argument("--key", help="which object: its key under instances/ or quarantine/")
    for command in (retry, release):
        command.add_argument("--reason", required=True, help="kept; no patient data")
        command.add_argument(
            "--force",
            action="store_true",
            help="import what is imported, a duplicate, or deleted in HealthImaging, once more",
        )
    dead = _command(commands, "redrive", _redrive, "move dead letters back to the queue")
    dead.add_argument("--limit", type=int, help="move so many one by one; default: all, by SQS")
    _command(commands, "reconcile", _reconcile, "look for objects nobody accounts for")
    return parser


def _command(commands: Any, name: str, function: Any, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(run=function)
    return parser


def _batch(asked: argparse.Namespace) -> Json:
    return resources.get_batch(wiring.stores(), setup.journal(), asked.batch_id)


def _batches(asked: argparse.Namespace) -> Json:
    query = {
        "state": asked.state,
        "callingAeTitle": asked.calling_ae_title,
        "limit": str(asked.limit),
    }
    given = {name: value for name, value in query.items() if value is not None}
    return resources.list_batches(wiring.stores(), given)


def _instance(asked: argparse.Namespace) -> Json:
    return resources.get_instance(wiring.stores(), asked.uid, {"limit": str(asked.limit)})


def _study(asked: argparse.Namespace) -> Json:
    return resources.get_study(wiring.stores(), asked.uid)


def _quarantine(asked: argparse.Namespace) -> Json:
    files = setup.files()
    found = islice(files.list(QUARANTINE_PREFIX + asked.prefix), max(asked.limit, 0))
    return {"objects": [_put_aside(files.head(each.key)) for each in found]}


def _put_aside(stored: Any) -> Json:
    return {
        "key": stored.key,
        "size": stored.size,
        "since": to_iso(stored.modified_at),
        "reason": stored.metadata.get("reason"),
    }


def _retry(asked: argparse.Namespace) -> Json:
    body = json.dumps({"reason": asked.reason, "force": asked.force}).encode()
    return resources.retry_batch(setup.operations(), asked.batch_id, body)


def _release(asked: argparse.Namespace) -> Json:
    members = {"reason": asked.reason, "force": asked.force}
    members |= {"key": asked.key} if asked.key else {}
    return resources.release_instance(setup.operations(), asked.uid, json.dumps(members).encode())


def _redrive(asked: argparse.Namespace) -> Json:
    settings = DeadLetterSettings.from_env(os.environ)
    dead, queue = settings.dead_letter_queue_name, settings.import_queue_name
    return {"done": redrive(aws.sqs(), dead, queue, asked.limit)}


def _reconcile(_: argparse.Namespace) -> Json:
    return reconcile(setup.reconciliation()).to_json()
