"""Every order of what can happen to the import of some batches, within bounds.

The steps of the import are the product's own functions, on its in-memory stores. Each may stop
after any call of a store or of HealthImaging: it goes on later, when others have done their part,
or never, as one that died; Step Functions then begins it again. HealthImaging's jobs end in any
way, at any moment, and its answers may fail.

What the model leaves out:

- Time. Nothing is forgotten after 90 days, and no limit of Step Functions runs out but the start's.
- HealthImaging calls a job FAILED, somebody imports its instances again, and only then the job
  turns COMPLETED. It has lied to whoever asked, and the instances are imported twice: ``late``
  happens only before an instance was asked for again, by a retry or in a newer batch.
- The list does not show a job for longer than RecordFailure waits for that.
- Closing a batch (the event of its manifest, or recovery) is one step here.
- Somebody deletes an image set before its import is recorded, and the event of that is lost: a copy
  that comes before the record does is its duplicate.
- An import was forced, and somebody deletes that copy: the ledger does not know of the first.
- Somebody deletes a job's record, too, while a step of the same job has stopped, or before it turns
  COMPLETED late.
"""

from collections.abc import Iterator
from typing import NamedTuple

from contract.batch_states import ENDED
from contract.records import BatchState
from tests.model.import_ports import Tape
from tests.model.import_steps import Task, execution_task
from tests.model.import_world import A, Cloud


class Scope(NamedTuple):
    """How much can happen, and, in a world, how much can happen yet."""

    stops: int = 0  # of a step between two of its calls
    faults: int = 0  # of calls of HealthImaging
    kinds: tuple[tuple[str, str], ...] = ()  # of faults: a method, and how it fails
    uids: tuple[str, ...] = ("1.1",)  # in the first batch
    again: tuple[str, ...] = ()  # in the second
    opened_early: bool = False  # the second batch: before anything else
    failing_jobs: int = 0
    refused: int = 0  # instances that HealthImaging does not take
    events: int = 0  # of a job's end, at any moment
    slow_results: int = 0  # jobs whose result files come later
    unlisted: int = 0  # the list does not show a job at first
    forgets: int = 0  # clientTokens
    gives_up: int = 0  # Step Functions, with a start
    late: int = 0  # jobs that were called FAILED and turn COMPLETED
    gone_jobs: int = 0  # records that somebody deletes
    gone_manifests: int = 0
    retries: int = 0
    forced: int = 0
    deletions: int = 0  # of image sets
    deletion_events: int = 0

    def spend(self, name: str) -> "Scope":
        return self._replace(**{name: getattr(self, name) - 1})


class Process(NamedTuple):
    """A step that has stopped between two of its calls."""

    task: Task
    tape: Tape
    minutes: int


class World(NamedTuple):
    """A cloud by its number, what can happen yet, and what has stopped."""

    cloud: int
    left: Scope
    stopped: tuple[Process, ...] = ()


def begin(scope: Scope) -> Cloud:
    """The first batch's manifest is there."""
    cloud = Cloud()
    cloud.imaging.is_listed = not scope.unlisted
    cloud.send(A, scope.uids)
    return cloud


def tasks(cloud: Cloud, left: Scope) -> Iterator[tuple[Process, Scope]]:
    """The steps that may begin, and what is left then."""
    for batch_id, stage in cloud.executions.items():
        if stage.name != "done":
            yield Process(execution_task(batch_id, stage), (), cloud.minutes), left
    if any(batch.state is BatchState.OPEN for batch in cloud.batches.rows.values()):
        yield Process(Task("recovery of", "what is open"), (), cloud.minutes), left
    requests = [
        *(("events", Task("event of", job_id)) for job_id in cloud.imaging.jobs),
        *(("retries", Task("retry of", batch_id)) for batch_id in _ended(cloud)),
        *(("forced", Task("forced retry of", batch_id)) for batch_id in _ended(cloud)),
        *(("deletion_events", Task("event of image set", each)) for each in cloud.imaging.deleted),
    ]
    for name, task in requests:
        if getattr(left, name):
            after = left.spend(name)
            # Who asks for instances again has had HealthImaging's word.
            is_retry = name in ("retries", "forced")
            yield Process(task, (), cloud.minutes), after._replace(late=0) if is_retry else after


def _ended(cloud: Cloud) -> list[str]:
    return [batch_id for batch_id, batch in cloud.batches.rows.items() if batch.state in ENDED]
