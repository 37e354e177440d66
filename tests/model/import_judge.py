"""What must be true of each world that the import model reaches, and of its end.

At every moment HealthImaging has at most one copy of an instance, but for those that were forced.
The end is when no more faults happen, what has stopped is dead, jobs have completed, and executions
have run. There, with HealthImaging's events lost:

- every batch and every job's record has ended, and the batch's counts add up;
- every acknowledged instance is IMPORTED, DELETED or FAILED with a reason;
- nothing is FAILED that the same batch has in a live image set. This is allowed where nobody could
  know: HealthImaging called the job FAILED before.

With its events delivered, that is not allowed either, and what is IMPORTED is in a live image set.
In both cases, once everything FAILED has been retried, each instance is imported exactly once.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Protocol

from contract.batch_states import ENDED
from contract.records import BatchRecord, BatchState, InstanceState, JobStatus
from tests.model.import_model import Process, Scope
from tests.model.import_steps import Task, execution_task
from tests.model.import_world import Cloud, Stage

_MANY = 60
_RETRIABLE = (BatchState.FAILED, BatchState.PARTIAL)


class Ran(Protocol):
    @property
    def cloud(self) -> int: ...


class Judge:
    """Judges clouds by their numbers, each once."""

    def __init__(
        self,
        scope: Scope,
        thaw: Callable[[int], Cloud],
        number: Callable[[Cloud], int],
        run: Callable[[int, Process], Ran],
    ) -> None:
        self._scope, self._thaw, self._number, self._run = scope, thaw, number, run
        self._judged: dict[int, str | None] = {}
        self._next: dict[int, int] = {}

    def defect(self, number: int) -> str | None:
        """What is wrong now, or will be."""
        if number not in self._judged:
            self._judged[number] = next(self._defects(number), None)
        return self._judged[number]

    def _defects(self, number: int) -> Iterator[str]:
        yield from twice(self._thaw(number))
        lost = self._quiet(number)
        yield from self._of_end(lost, "its events are lost", are_told=False)
        yield from self._of_end(self._told(lost), "its events are told", are_told=True)

    def _of_end(self, number: int, when: str, *, are_told: bool) -> Iterator[str]:
        cloud = self._thaw(number)
        yield from (f"{each}, {when}" for each in unfinished(cloud))
        yield from (f"{each}, {when}" for each in untrue(cloud, are_told=are_told))
        cloud = self._thaw(self._retried(number))
        left = [*unfinished(cloud), *untrue(cloud, are_told=True, deletions=are_told)]
        left += [*twice(cloud), *missing(cloud, self._scope)]
        yield from (f"{each} after a retry, {when}" for each in left)

    def _quiet(self, number: int) -> int:
        """Everything pending has run."""
        for _ in range(_MANY):
            if number not in self._next:
                self._next[number] = self._go_on(number)
            if self._next[number] == number:
                break
            number = self._next[number]
        return number

    def _go_on(self, number: int) -> int:
        cloud = self._thaw(number)
        if _healthimaging_goes_on(cloud) or _dispatch_goes_on(cloud):
            return self._number(cloud)
        if any(batch.state is BatchState.OPEN for batch in cloud.batches.rows.values()):
            recovery = Process(Task("recovery of", "what is open"), (), cloud.minutes)
            return self._run(number, recovery).cloud
        for batch_id, stage in cloud.executions.items():
            if stage.name != "done":
                task = execution_task(batch_id, stage)
                after = self._run(number, Process(task, (), cloud.minutes)).cloud
                if after != number:
                    return after
        if cloud.waits_for_the_list():
            cloud.pass_an_hour()
        return self._number(cloud)

    def _told(self, number: int) -> int:
        """HealthImaging's events are delivered."""
        cloud = self._thaw(number)
        untold = cloud.imaging.deleted - cloud.imaging.told
        events = [Task("event of", job_id) for job_id in sorted(cloud.imaging.jobs)]
        events += [Task("event of image set", each) for each in sorted(untold)]
        for event in events:
            number = self._quiet(self._run(number, Process(event, (), cloud.minutes)).cloud)
        return number

    def _retried(self, number: int) -> int:
        """Each batch that has failed in part is retried, and so are the batches made of it."""
        done: set[str] = set()
        while True:
            cloud = self._thaw(number)
            batches = sorted(cloud.batches.rows.values(), key=lambda batch: batch.batch_id)
            ready = [each.batch_id for each in batches if each.state in _RETRIABLE]
            if not (todo := [batch_id for batch_id in ready if batch_id not in done]):
                return number
            done.add(todo[0])
            retry = Process(Task("retry of", todo[0]), (), cloud.minutes)
            number = self._quiet(self._run(number, retry).cloud)


def _healthimaging_goes_on(cloud: Cloud) -> bool:
    """One step of one job, to its completion."""
    for job in cloud.imaging.jobs.values():
        if not job.listed:
            cloud.imaging.jobs[job.job_id] = replace(job, listed=True)
        elif job.status is JobStatus.SUBMITTED:
            cloud.begin(job.job_id)
        elif job.status is JobStatus.IN_PROGRESS:
            cloud.end(job.job_id, JobStatus.COMPLETED)
        elif job.status is JobStatus.COMPLETED and job.results < 2:
            cloud.write_results(job.job_id)
        else:
            continue
        return True
    return False


def _dispatch_goes_on(cloud: Cloud) -> bool:
    for batch_id in cloud.waiting():
        cloud.admit(batch_id)
        return True
    for batch_id in cloud.stalled():
        cloud.executions[batch_id] = Stage("start")
        return True
    return False


def twice(cloud: Cloud) -> Iterator[str]:
    """Copies that were forced do not count."""
    batches = cloud.batches.rows
    copies = Counter(uid for uid, job in cloud.imaging.live() if not batches[job.batch_id].forced)
    yield from (f"{uid} is imported twice" for uid, count in copies.items() if count > 1)


def unfinished(cloud: Cloud) -> Iterator[str]:
    for batch in cloud.batches.rows.values():
        if batch.state not in ENDED:
            yield f"{batch.batch_id} is {batch.state} for ever"
        elif not _adds_up(batch):
            yield f"the counts of {batch.batch_id} do not add up: {batch.state}, {batch.counts}"
    for job in cloud.jobs.rows.values():
        if not job.job_status.ended:
            yield f"the record of {job.job_id} is {job.job_status} for ever"
    for row in cloud.instances.rows.values():
        ended = row.state in (InstanceState.IMPORTED, InstanceState.DELETED, InstanceState.FAILED)
        if not ended or (row.state is InstanceState.FAILED and not row.reason):
            yield f"{row.sop_instance_uid} is {row.state} for ever"


def _adds_up(batch: BatchRecord) -> bool:
    counts = batch.counts
    if not counts.failed:
        state = BatchState.IMPORTED
    else:
        state = BatchState.PARTIAL if counts.imported else BatchState.FAILED
    return counts.imported + counts.failed == counts.instances and batch.state is state


def untrue(cloud: Cloud, *, are_told: bool, deletions: bool = True) -> Iterator[str]:
    """``are_told``: there is nothing that the product could not know; of deletions perhaps."""
    live = list(cloud.imaging.live())
    for row in cloud.instances.rows.values():
        uid = row.sop_instance_uid
        own = [job for each, job in live if each == uid and job.batch_id == row.batch_id]
        if row.state is InstanceState.FAILED:
            known = [job for job in own if not job.lied]
            if own if are_told else known:
                yield f"{uid} is FAILED, and HealthImaging has it"
        elif row.state is InstanceState.IMPORTED and are_told and deletions and not own:
            yield f"{uid} is IMPORTED, and HealthImaging does not have it"
        elif row.state is InstanceState.DELETED and own:
            yield f"{uid} is DELETED, and HealthImaging has it"
    for batch in cloud.batches.rows.values():
        made = {uid for job in cloud.imaging.of(batch.batch_id) for uid in job.uids}
        if are_told and batch.counts.imported - batch.counts.duplicates != len(made):
            yield f"{batch.batch_id} counts {batch.counts}, and HealthImaging {len(made)}"


def missing(cloud: Cloud, scope: Scope) -> Iterator[str]:
    """What nobody has deleted, and is not there."""
    live = {uid for uid, _ in cloud.imaging.live()}
    deleted = {
        uid
        for job in cloud.imaging.jobs.values()
        for uid in job.uids
        if job.image_set_id in cloud.imaging.deleted
    }
    sent = [*scope.uids, *(scope.again if len(_sent(cloud)) > 1 else ())]
    yield from (f"{uid} is not imported" for uid in sent if uid not in live | deleted)
    yield from (f"{uid} was sent again and is not imported" for uid in cloud.wanted - live)
    for uid, row in cloud.instances.rows.items():
        if row.state is InstanceState.FAILED:
            yield f"{uid} is FAILED"


def _sent(cloud: Cloud) -> list[BatchRecord]:
    return [batch for batch in cloud.batches.rows.values() if batch.retry_of is None]
