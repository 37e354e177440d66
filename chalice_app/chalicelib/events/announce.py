"""Sends the events of what has happened, and only then says that they are sent.

A crash between the two sends them again, with the same ``eventId``; anywhere else it loses and
repeats nothing. One invocation at a time has the lock. What fails, or is too much for one, is
there in the next minute.
"""

from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property, partial

import structlog

from chalicelib.deadline import UNBOUNDED, Deadline
from chalicelib.errors import JobUnfinished, ObjectDenied, ObjectUnavailable
from chalicelib.events.bus import Bus
from chalicelib.events.facts import batch_events, quarantine_events, study_event
from chalicelib.events.quiet import LookAgain, Quiet, decide, ended_at
from chalicelib.imports.aside import aside_of
from chalicelib.imports.listing import studies_of
from chalicelib.isolation import Isolation
from chalicelib.metrics import embedded
from chalicelib.settings import METRIC_NAMESPACE
from chalicelib.stores import Stores
from chalicelib.stores.blocked import Work
from chalicelib.stores.files import Files
from chalicelib.stores.lock import Lock
from chalicelib.stores.objects import read_manifest
from chalicelib.stores.outbox import Due, Outbox, event_key
from chalicelib.threads import in_threads
from contract.errors import InvalidManifest
from contract.keys import batch_prefix, manifest_key
from contract.records import BatchRecord, BatchState

# What is begun within this, and before the end of its invocation by what one of them may take.
_WORK = timedelta(seconds=60)
_ONE_TAKES = timedelta(seconds=55)
# Longer than the function may run: whoever holds the lock for longer is dead.
_HOLD = timedelta(seconds=150)
# A job's record follows its batch's at once, or after a crash with the state machine's retry.
_JOB_LAG = timedelta(minutes=10)
# Of executions that have ended, before the one that runs or is started.
_MOST_NUMBERS = 10
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Announcer:
    """What announcing works with; ``holder`` is an invocation's own name.

    ``start`` sees that the execution of a batch with a number runs; False if it has ended.
    """

    stores: Stores
    outbox: Outbox
    files: Files
    bus: Bus
    start: Callable[[str, int], bool]
    lock: Lock
    quiet: timedelta
    now: Callable[[], datetime]
    holder: str
    deadline: Deadline = UNBOUNDED
    metric_namespace: str = METRIC_NAMESPACE


def announce(announcer: Announcer) -> bool:
    """Send what is to be sent; False if another invocation is at it.

    What fails stops no other (``isolation``). Raises ServiceUnavailable once all has been tried.
    """
    began = announcer.now()
    if not announcer.lock.take(announcer.holder, began, began + _HOLD):
        return False
    try:
        _Round(announcer, began).work()
    finally:
        announcer.lock.leave(announcer.holder)
    return True


class _Round:
    """One invocation's work."""

    def __init__(self, announcer: Announcer, began: datetime) -> None:
        self._announcer = announcer
        self._stores, self._outbox = announcer.stores, announcer.outbox
        self._began = began
        self._until = announcer.deadline.less(_ONE_TAKES).within(_WORK, began)
        self._run = Isolation(
            Work.ANNOUNCEMENT, announcer.stores.blocked, announcer.outbox, announcer.now
        )

    def work(self) -> None:
        """Batches before the studies that their end may bring up."""
        due, until = self._outbox.due, self._began
        is_all = (
            self._each(due(Due.ANNOUNCE, until), self._announce_batch)
            and self._each(self._stores.studies.due(until), self._look_at_study)
            and self._each(due(Due.EVENT, until), self._send_event)
        )
        if is_all:
            self._run.forget_others()
        self._tell_blocked()
        self._run.finish()

    def _tell_blocked(self) -> None:
        """How many subjects are blocked, of all kinds of work: a metric, each minute."""
        values = {
            "BlockedSubjects": sum(len(self._stores.blocked.next_tries(work)) for work in Work),
        }
        _log.info("blocked", **embedded(self._announcer.metric_namespace, self._began, values))

    def _each(self, keys: Iterator[str], do: Callable[[str], None]) -> bool:
        """False if time was up before the last."""
        for key in keys:
            if self._until.is_over(self._announcer.now()):
                return False
            if self._run.is_due(key):
                self._run.attempt(key, partial(self._do, do, key))
        return True

    def _do(self, do: Callable[[str], None], key: str) -> None:
        do(key)
        self._run.succeeded(key)

    def _announce_batch(self, batch_id: str) -> None:
        batch = self._stores.batches.get(batch_id)
        if batch is None or not self._outbox.is_due(batch_id, Due.ANNOUNCE):
            return  # the index was late
        job = self._stores.jobs.get(batch.job_id) if batch.job_id else None
        if job and not job.job_status.ended:
            if ended_at(batch) > self._began - _JOB_LAG:
                return
            self._finish_job(batch)
        studies = self._studies(batch)
        at = ended_at(batch)
        look_at = at + self._announcer.quiet
        in_threads(lambda uid: self._stores.studies.look(uid, look_at), list(studies))
        events = batch_events(batch, job, studies, at)
        events += quarantine_events(aside_of(self._announcer.files, batch_id), at)
        self._announcer.bus.send(events)
        then = None if batch.state is BatchState.FAILED else Due.EXPIRE
        # Of this end: another may have been found since.
        self._outbox.done(batch_id, Due.ANNOUNCE, then, at)
        _log.info("batch_announced", batch_id=batch_id, events=len(events))

    def _finish_job(self, batch: BatchRecord) -> None:
        """The execution died between the batch's end and its job's: another one finishes the job.

        It asks HealthImaging, and starts nothing. If it dies as well, the next try starts the next
        one. Raises JobUnfinished: the end is announced with the image sets, which the job has.
        """
        known = self._stores.blocked.get(Work.ANNOUNCEMENT, batch.batch_id)
        latest = batch.attempt + (known.tries if known else 0)
        for number in range(latest, latest + _MOST_NUMBERS):
            if self._announcer.start(batch.batch_id, number):
                break
        raise JobUnfinished("the batch has ended, and its job's record has not")

    def _studies(self, batch: BatchRecord) -> Set[str]:
        """By the batch's objects, where its manifest cannot be read."""
        bucket, key = self._announcer.files.bucket, manifest_key(batch.batch_id)
        try:
            manifest = read_manifest(self._stores.objects, bucket, key)
        except (InvalidManifest, ObjectUnavailable, ObjectDenied) as error:
            _log.warning("batch_without_manifest", batch_id=batch.batch_id, reason=str(error))
            return studies_of(batch.batch_id, self._announcer.files)
        return frozenset(manifest.studies)

    def _look_at_study(self, study_instance_uid: str) -> None:
        study = self._stores.studies.get(study_instance_uid)
        if study is None or study.due_at is None:
            return  # the index was late
        batches = (self._stores.batches.get(batch_id) for batch_id in sorted(study.batch_ids))
        found = decide(batches, self._began, self._announcer.quiet)
        if isinstance(found, Quiet) and study.study_instance_uid in self._open_studies:
            found = LookAgain(self._began + self._announcer.quiet)
        if isinstance(found, LookAgain):
            self._stores.studies.put_off(study, found.at)
            return
        event = study_event(study.study_instance_uid, study.batch_ids, found.since)
        if self._stores.studies.settle(study, event):
            self._send_event(event_key(event))

    @cached_property
    def _open_studies(self) -> Set[str]:
        """Of the batches that receivers are still filling."""
        return frozenset(self._found_open())

    def _found_open(self) -> Iterator[str]:
        for batch in self._stores.batches.lines(BatchState.OPEN):
            yield from self._announcer.files.folders(batch_prefix(batch.batch_id))

    def _send_event(self, key: str) -> None:
        event = self._outbox.event(key)
        if event is not None:
            self._announcer.bus.send([event])
            self._outbox.sent(key, self._announcer.now())
