"""What each command of ``python -m chalicelib.operations`` does: the resources of the REST API,
and what REST does not have.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from botocore.exceptions import ClientError

from chalicelib import aws, wiring
from chalicelib.api import parameters, resources
from chalicelib.errors import NotFound
from chalicelib.intake.drops import digest
from chalicelib.operations import dead_letters as letters
from chalicelib.operations import setup
from chalicelib.operations.bulk_retry import Selection, retry_all
from chalicelib.operations.dead_letter_walk import Queues
from chalicelib.operations.failures import FAILURES, in_words
from chalicelib.operations.reconcile import reconcile as reconcile_objects
from chalicelib.settings import ApiSettings, DeadLetterSettings
from chalicelib.stores.blocked import Work, listed
from chalicelib.stores.files import Files, StoredObject
from chalicelib.threads import in_threads
from contract.errors import ProductError
from contract.keys import DROPBOX_PREFIX, QUARANTINE_PREFIX
from contract.records import BatchState
from contract.times import to_iso

Json = dict[str, Any]
# What a bulk retry is for. Nobody wants every IMPORTED batch repeated.
RETRIABLE = (BatchState.FAILED, BatchState.PARTIAL)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command prints: JSON, and then lines of advice. ``is_good``: all of it was done."""

    body: Json
    advice: tuple[str, ...] = ()
    is_good: bool = True


def batch(asked: argparse.Namespace) -> Answer:
    """``GET /batches/{batchId}``."""
    return Answer(resources.get_batch(wiring.stores(), setup.journal(), asked.batch_id))


def batches(asked: argparse.Namespace) -> Answer:
    """``GET /batches``."""
    query = _query(asked, state=asked.state, callingAeTitle=asked.calling_ae_title)
    return _listed(resources.list_batches(wiring.stores(), query))


def blocked(asked: argparse.Namespace) -> Answer:
    """``GET /blocked``; of an object in the dropbox, with its key, for this terminal alone."""
    answer = _listed(resources.list_blocked(wiring.stores(), _query(asked, work=asked.work)))
    records = answer.body["blocked"]
    if any(record["work"] == Work.DROPBOX for record in records):
        keys = {digest(each): each.key for each in setup.files().list(DROPBOX_PREFIX)}
        for record in records:
            if record["subject"] in keys:
                record["key"] = keys[record["subject"]]
    return answer


def unblock(asked: argparse.Namespace) -> Answer:
    """Have what is blocked tried by the next invocation, in a minute (expiry: in an hour)."""
    store, now = wiring.stores().blocked, datetime.now(UTC)
    works = (Work(asked.work),) if asked.work else tuple(Work)
    chosen = [each for each in listed(store, works) if asked.subject in (None, each.subject)]
    for record in chosen:
        store.put(replace(record, next_try_at=now))
    if not chosen:
        raise NotFound("nothing of this kind is blocked: see blocked")
    return Answer({"unblocked": len(chosen)})


def job(asked: argparse.Namespace) -> Answer:
    """``GET /jobs/{jobId}``, or its instances."""
    if not asked.instances:
        return Answer(resources.get_job(wiring.stores(), asked.job_id))
    bucket = wiring.settings(ApiSettings).dicom_bucket
    found = resources.list_job_instances(wiring.stores(), bucket, asked.job_id, _query(asked))
    return _listed(found)


def jobs(asked: argparse.Namespace) -> Answer:
    """``GET /jobs``."""
    times = {"from": asked.since, "to": asked.until}
    query = {"status": asked.status, "study": asked.study}
    query |= {name: each and to_iso(each) for name, each in times.items()}
    return _listed(resources.list_jobs(wiring.stores(), _query(asked, **query)))


def instance(asked: argparse.Namespace) -> Answer:
    """``GET /instances/{sopInstanceUID}``."""
    query = _query(asked)
    return _listed(resources.get_instance(wiring.stores(), setup.journal(), asked.uid, query))


def study(asked: argparse.Namespace) -> Answer:
    """``GET /studies/{studyInstanceUID}``."""
    return Answer(resources.get_study(wiring.stores(), asked.uid))


def quarantine(asked: argparse.Namespace) -> Answer:
    """A page of what was put aside, in the order of keys."""
    files = setup.files()
    after = parameters.object_cursor(asked.cursor) if asked.cursor is not None else ""
    found = files.list(QUARANTINE_PREFIX + asked.prefix, after)
    page = list(islice(found, asked.limit))
    body: Json = {"objects": in_threads(lambda each: _put_aside(each, files), page)}
    if next(found, None) is not None:
        body |= {"truncated": True, "nextCursor": parameters.cursor_of(page[-1].key)}
    return _listed(body)


def _put_aside(listed: StoredObject, files: Files) -> Json:
    """What is there; of one that cannot be read, what the listing says, and why."""
    view: Json = {"key": listed.key, "size": listed.size, "since": to_iso(listed.modified_at)}
    try:
        return view | {"reason": files.head(listed.key).metadata.get("reason")}
    except ProductError as error:
        return view | {"unread": str(error)}
    except ClientError as error:
        return view | {"unread": f"S3: {aws.error_code(error)}"}


def retry(asked: argparse.Namespace) -> Answer:
    """``POST /batches/{batchId}/retry``, or the same for all batches in a state."""
    if (asked.batch_id is None) == (asked.state is None):
        asked.parser.error("either a BATCH_ID, or --state for all batches in that state")
    if asked.state is not None:
        return _retry_all(asked)
    given = [name for name in ("calling_ae_title", "since", "until", "limit", "cursor")
             if getattr(asked, name) is not None]  # fmt: skip
    if given:
        asked.parser.error(f"--{given[0].replace('_', '-')} goes with --state only")
    body = json.dumps({"reason": asked.reason, "force": asked.force}).encode()
    return Answer(resources.retry_batch(setup.operations(), asked.batch_id, body))


def _retry_all(asked: argparse.Namespace) -> Answer:
    filters = {"state": asked.state, "callingAeTitle": asked.calling_ae_title}
    selection = Selection(
        query=parameters.batch_query(_given(filters)),
        since=asked.since,
        until=asked.until,
        limit=asked.limit,
        cursor=parameters.key_cursor(_given({"cursor": asked.cursor})),
    )
    summary = retry_all(
        selection, _checked(asked.reason), setup.operations, _tell, force=asked.force
    )
    listed = _listed(summary.to_json())
    again = ("Run the same command again.",) if summary.stopped else ()
    return Answer(listed.body, listed.advice or again, summary.is_good)


def release(asked: argparse.Namespace) -> Answer:
    """``POST /instances/{sopInstanceUID}/release``."""
    members = {"reason": asked.reason, "force": asked.force}
    members |= {"key": asked.key} if asked.key else {}
    body = json.dumps(members).encode()
    return Answer(resources.release_instance(setup.operations(), asked.uid, body))


def dead_letters(asked: argparse.Namespace) -> Answer:
    """What is in the dead-letter queue."""
    listing = letters.dead_letters(_queues(), asked.limit)
    advice = _unseen(listing)
    if not (advice or listing.is_complete):
        advice = ["There may be more: SQS has no pages, so ask again with a greater --limit."]
    return Answer(listing.to_json(), tuple(advice), listing.stopped is None)


def redrive(asked: argparse.Namespace) -> Answer:
    """Dead letters back to the queue."""
    if asked.message_ids and asked.limit is not None:
        asked.parser.error("--limit does not go with MESSAGE_IDs: each is looked for in all")
    wanted = set(asked.message_ids) or None
    report = letters.redrive(_queues(), wanted, asked.limit)
    advice = [*_more(report, asked.limit)]
    junk = [each for each in report.left if each["junk"]]
    if junk:
        advice.append(
            f"{len(junk)} messages are no S3 events and were left: dead-letters lists them,"
            " discard MESSAGE_ID ... --reason TEXT (or discard --junk --reason TEXT) deletes them."
        )
    if len(junk) < len(report.left):
        advice.append(
            f"{len(report.left) - len(junk)} damaged events name objects of ours and were left: see"
            " batch ID; once it is closed, discard MESSAGE_ID --reason TEXT --force deletes them."
        )
    is_good = report.is_good and not (wanted and report.left)
    return Answer(report.to_json("moved"), tuple(advice), is_good)


def discard(asked: argparse.Namespace) -> Answer:
    """Dead letters deleted; asked again for one that is gone, why that was."""
    if bool(asked.message_ids) == asked.junk:
        asked.parser.error("either MESSAGE_IDs, or --junk for all that are no S3 event")
    if asked.junk and asked.force:
        asked.parser.error("--force does not go with --junk: it is for events that you name")
    wanted, journal = set(asked.message_ids) or None, setup.journal()
    reason = _checked(asked.reason)
    report = letters.discard(_queues(), wanted, reason, journal, force=asked.force)
    try:
        before = [found for each in report.not_found if (found := journal.discarded(each))]
    except FAILURES as error:  # what is deleted must be said all the same
        before, report.stopped = [], in_words(error)
    known = {each.message_id for each in before}
    report.not_found = [each for each in report.not_found if each not in known]
    body = report.to_json("discarded")
    if before:
        body["discardedBefore"] = [
            {"messageId": each.message_id, "what": each.what, "reason": each.reason,
             "requestedAt": to_iso(each.requested_at)}
            for each in before
        ]  # fmt: skip
    is_good = report.is_good and not report.left
    return Answer(body, tuple(_more(report, None)), is_good)


def reconcile(_: argparse.Namespace) -> Answer:
    """One walk over ``instances/``."""
    return Answer(reconcile_objects(setup.reconciliation()).to_json())


def _more(report: letters.Report, limit: int | None) -> list[str]:
    advice = []
    if report.not_found:
        advice.append(
            "Not there, or received by somebody else a moment ago; SQS shows such a message again"
            " within ten minutes: " + ", ".join(report.not_found)
        )
    unseen = _unseen(report)
    if not (unseen or report.is_complete) and limit is None:
        unseen = ["The queue has more than one walk takes: run the same command again."]
    return advice + unseen


def _unseen(told: letters.Listing | letters.Report) -> list[str]:
    """Why an answer is not of the whole queue, other than by its length."""
    if told.stopped:
        return ["It ended early, see stopped: run the same command again."]
    if told.hidden_count:
        return [
            f"{told.hidden_count} more are hidden by another command; ask again in ten minutes."
        ]
    return []


def _queues() -> Queues:
    settings = DeadLetterSettings.from_env(os.environ)
    bucket = wiring.settings(ApiSettings).dicom_bucket
    return Queues(aws.sqs(), settings.dead_letter_queue_name, settings.import_queue_name, bucket)


def _checked(reason: str) -> str:
    """A reason, by REST's rules; raises BadParameter."""
    body = json.dumps({"reason": reason}).encode()
    return parameters.request(body, frozenset()).reason


def _query(asked: argparse.Namespace, **filters: str | None) -> Mapping[str, str]:
    return _given({**filters, "limit": str(asked.limit), "cursor": asked.cursor})


def _given(query: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in query.items() if value is not None}


def _listed(body: Json) -> Answer:
    """A list's page, and how to go on."""
    if "nextCursor" not in body:
        return Answer(body)
    more = f"There is more: run the same command with --cursor {body['nextCursor']}"
    return Answer(body, (more,))


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
