"""Starts the imports of waiting batches, one invocation at a time, at HealthImaging's own pace.

A batch is admitted by a conditional write and then has its execution, named for it. So whatever is
repeated or crashes between, no batch is imported twice, and one that was admitted without getting
its execution gets it later, as one does whose execution died (``intake.stalled``).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from chalicelib.deadline import UNBOUNDED, Deadline
from chalicelib.imports.execution import Execution
from chalicelib.intake.admission import Pace, Slots, choose, last_start, remembered
from chalicelib.intake.stalled import (
    Workflow,
    find_dead,
    readable,
    start_again,
    to_start_again,
)
from chalicelib.metrics import embedded
from chalicelib.settings import AdmissionSettings
from chalicelib.stores.batches import BatchLine, BatchStore, line_of
from chalicelib.stores.gate import Gate, GateStore
from contract.batch_states import BatchEvent
from contract.records import BatchRecord, BatchState

# Tables are looked at this often while there is work: at one start a second, every tenth time.
_LOOK_SECONDS = 10
# Until a slot is free, or the index shows a batch that was announced while the gate was held.
_PAUSE_SECONDS = 1.0
# How long the index may lag behind a write; it is below a second nearly always.
_LAG = timedelta(seconds=5)
# What is seen of a longer queue: those whose turn it is, and, for senders with little to do, those
# opened last: a quarter of an hour's at one a second. Reading 5,000 took a dispatcher of 256 MB 2.5
# seconds of each ten, and still hid whatever was opened after them.
_OLDEST, _NEWEST = 500, 1_000
# The longest call to AWS with all its retries; an invocation that holds the gate longer is dead.
_HOLD = timedelta(seconds=60)
# A look at long tables, or an admission and its start, when AWS is slow.
_STEP = timedelta(seconds=15)
# As many STALLED batches start again in an invocation though others wait. The rest of its turns are
# theirs only if nobody else can use them.
_AGAIN = 5
_log = structlog.get_logger()


class Clock(Protocol):
    """Wall time."""

    def now(self) -> datetime:
        """The time, in UTC."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


@dataclass(frozen=True, slots=True)
class Desk:
    """What a dispatcher works with. ``holder`` is its own name, like no other invocation's."""

    batches: BatchStore
    gate: GateStore
    workflow: Workflow
    settings: AdmissionSettings
    clock: Clock
    holder: str
    deadline: Deadline = UNBOUNDED


def dispatch(desk: Desk, fresh: Iterable[BatchRecord] = ()) -> int:
    """Start what may start, for at most DISPATCH_SECONDS; returns how many imports it started.

    ``fresh`` were closed a moment ago, so that the index may not show them yet. Where another
    dispatcher is at work this returns at once: that one looks again before it stops. So it does
    where the invocation has no time left: the schedule dispatches within a minute.
    """
    if desk.deadline.less(_STEP).is_over(desk.clock.now()):
        return 0
    gate = _enter(desk)
    return 0 if gate is None else _Shift(desk, gate, fresh).work()


def _enter(desk: Desk) -> Gate | None:
    now = desk.clock.now()
    return desk.gate.enter(desk.holder, now, now + _HOLD)


class _Shift:
    """One dispatcher's time at the gate."""

    def __init__(self, desk: Desk, gate: Gate, fresh: Iterable[BatchRecord]) -> None:
        settings = desk.settings
        self._desk = desk
        self._gate: Gate | None = gate
        self._pace = Pace(settings.start_rate, settings.start_burst)
        self._slots = Slots(settings.max_concurrent_jobs, settings.datastore_id)
        self._waiting = {batch.batch_id: line_of(batch) for batch in fresh}
        self._importing: dict[str, BatchLine] = {}
        self._started: dict[str, BatchLine] = {}
        self._stalled: set[str] = set()
        self._again: list[BatchRecord] = []
        self._resumed = 0
        self._looked_at: datetime | None = None

    def work(self) -> int:
        """Until nothing waits, or time is up."""
        self._look()
        self._find_stalled()
        self._tell_backlog()
        # From here: a first look that takes long must not be all that a shift does.
        most = timedelta(seconds=self._desk.settings.dispatch_seconds)
        until = self._desk.deadline.less(_STEP).within(most, self._desk.clock.now())
        while self._gate is not None and not until.is_over(self._desk.clock.now()):
            self._step(self._gate)
        if self._gate is not None:
            self._desk.gate.leave(self._desk.holder)
        return len(self._started)

    def _find_stalled(self) -> None:
        """Whose execution has died holds no slot from here on; some start again in this shift."""
        desk, now = self._desk, self._desk.clock.now()
        bucket = desk.settings.dicom_bucket
        dead = find_dead(self._importing.values(), desk.batches, desk.workflow, bucket, now)
        stalled = list(desk.batches.lines(BatchState.STALLED))
        self._again = to_start_again(stalled, dead, desk.batches, now)
        self._stalled = {each.batch_id for each in stalled} | {each.batch_id for each in dead}
        self._importing = {
            batch_id: line
            for batch_id, line in self._importing.items()
            if batch_id not in self._stalled
        }

    def _tell_backlog(self) -> None:
        """Once a shift, which is once a minute at least, whatever waits or not."""
        now = self._desk.clock.now()
        oldest = min((each.closed_at or now for each in self._waiting.values()), default=now)
        importing = self._importing.values()
        first = min((last_start(each) for each in importing), default=now)
        values = {
            "WaitingBatches": len(self._waiting),
            "ImportingBatches": len(self._importing),
            "StalledBatches": len(self._stalled),
            "BacklogSeconds": (now - oldest).total_seconds(),
            "ImportingSeconds": (now - first).total_seconds(),
        }
        _log.info("backlog", **embedded(self._desk.settings.metric_namespace, now, values))

    def _step(self, gate: Gate) -> None:
        """Start a batch, or wait, or stop by letting go of the gate."""
        now = self._desk.clock.now()
        batch = choose(self._waiting.values(), self._importing.values(), gate.recent, self._slots)
        is_again = bool(self._again) and (batch is None or self._resumed < _AGAIN)
        if batch is None and not is_again:
            self._rest(gate)
            return
        wait = self._pace.wait(gate.next_start, now)
        if wait > 0:
            if not self._looked_again():  # an urgent one may have come; looking takes its time, too
                self._desk.clock.sleep(wait)
            return
        if is_again:
            self._start_again(self._again.pop(0), gate, now)
        elif batch is not None:
            self._start(batch, gate, now)

    def _rest(self, gate: Gate) -> None:
        """Nothing can start. Stay while batches wait for a slot, or were announced meanwhile."""
        if not self._waiting:
            if self._desk.gate.leave(self._desk.holder, gate.asked):
                self._gate = None
                return
            self._gate = _enter(self._desk)
            if self._gate is None:
                return
        self._desk.clock.sleep(_PAUSE_SECONDS)
        self._look()

    def _start(self, line: BatchLine, gate: Gate, now: datetime) -> None:
        """Take the pace's turn, admit, start: a crash in between costs a turn and no batch."""
        del self._waiting[line.batch_id]
        batch = readable(self._desk.batches, line.batch_id)
        if batch is None or batch.state is not BatchState.CLOSED:
            return  # the index was late: it has been admitted before
        if not self._take_turn(line, gate, now):
            return
        admitted = replace(batch, admitted_at=now)
        if not self._desk.batches.move(admitted, BatchEvent.ADMITTED):
            return  # somebody else has admitted it meanwhile
        self._started[batch.batch_id] = self._importing[batch.batch_id] = line_of(admitted)
        bucket = self._desk.settings.dicom_bucket
        self._desk.workflow.start(Execution.of(batch.batch_id, bucket))
        _log.info("import_admitted", batch_id=batch.batch_id, urgent=batch.urgent)

    def _start_again(self, batch: BatchRecord, gate: Gate, now: datetime) -> None:
        """The same for a STALLED batch."""
        if not self._take_turn(line_of(batch), gate, now):
            return
        self._resumed += 1
        desk = self._desk
        bucket = desk.settings.dicom_bucket
        again = start_again(batch, desk.batches, desk.workflow, bucket, now)
        if again is not None:
            self._stalled.discard(batch.batch_id)
            self._started[batch.batch_id] = self._importing[batch.batch_id] = line_of(again)

    def _take_turn(self, line: BatchLine, gate: Gate, now: datetime) -> bool:
        """Note the pace's turn as taken; False if another dispatcher has the gate."""
        next_start = self._pace.after(gate.next_start, now)
        turn = replace(gate, next_start=next_start, recent=remembered(gate.recent, line))
        is_kept = self._desk.gate.keep(self._desk.holder, turn, now + _HOLD)
        if not is_kept:
            _log.warning("gate_lost")
        self._gate = turn if is_kept else None
        return is_kept

    def _looked_again(self) -> bool:
        age = timedelta(seconds=_LOOK_SECONDS)
        is_due = self._looked_at is None or self._desk.clock.now() - self._looked_at >= age
        if is_due:
            self._look()
        return is_due

    def _look(self) -> None:
        """Read who waits and who imports; what this shift knows better than the index, stays."""
        now = self._desk.clock.now()
        seen = {batch.batch_id: batch for batch in self._in_line()}
        # Those that were not even seen yet are kept: at the latest, admitting them tells.
        self._waiting = {
            batch_id: batch
            for batch_id, batch in (self._waiting | seen).items()
            if batch_id not in self._started
        }
        self._importing = {
            batch.batch_id: batch
            for batch in self._desk.batches.lines(BatchState.IMPORTING)
            if batch.batch_id not in self._stalled
        } | {
            batch_id: batch
            for batch_id, batch in self._started.items()
            if batch.admitted_at and now - batch.admitted_at < _LAG
        }
        self._looked_at = now

    def _in_line(self) -> list[BatchLine]:
        batches = self._desk.batches
        oldest = list(batches.lines(BatchState.CLOSED, _OLDEST))
        if len(oldest) < _OLDEST:
            return oldest
        return [*oldest, *batches.lines(BatchState.CLOSED, _NEWEST, newest=True)]
