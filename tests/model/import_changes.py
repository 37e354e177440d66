"""What happens around the import's steps: the sender, HealthImaging, and people who delete."""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from contract.batch_states import ENDED
from contract.keys import InstanceKey, manifest_key, new_batch_id
from contract.records import InstanceState, JobStatus
from tests.model.import_imaging import Job
from tests.model.import_model import Scope
from tests.model.import_world import A, B, Cloud, Frozen, Stage, at
from tests.unit.chalicelib.builders import BUCKET

_WAS_IMPORTED = (InstanceState.IMPORTED, InstanceState.DELETED)


class Change(NamedTuple):
    """Its name, what can happen yet behind it, and the cloud then."""

    name: str
    left: Scope
    cloud: Cloud


def changes(frozen: Frozen, left: Scope) -> Iterator[Change]:
    """All that can happen to a cloud, and is no step of an import."""
    cloud = Cloud.thaw(frozen)
    yield from _of_batches(cloud, frozen, left)
    for job in cloud.imaging.jobs.values():
        yield from _of_job(job, frozen, left)
        yield from _of_failing_job(job, cloud, frozen, left)
        yield from _of_memory(job, cloud, frozen, left)
    if cloud.waits_for_the_list():
        after = Cloud.thaw(frozen)
        after.pass_an_hour()
        yield Change("an hour passes", left, after)
    is_open = cloud.batches.rows[A].state not in ENDED
    if left.gone_manifests and is_open and (BUCKET, manifest_key(A)) in cloud.objects.bodies:
        after = Cloud.thaw(frozen)
        del after.objects.bodies[BUCKET, manifest_key(A)]
        yield Change(f"the manifest of {A} is deleted", left.spend("gone_manifests"), after)


def _of_batches(cloud: Cloud, frozen: Frozen, left: Scope) -> Iterator[Change]:
    if left.again:
        after = Cloud.thaw(frozen)
        second = B if left.opened_early else new_batch_id(at(cloud.minutes), bytes(8))
        live = {uid for uid, _ in cloud.imaging.live()}
        rows = cloud.instances.rows
        ended = {row.sop_instance_uid for row in rows.values() if row.state in _WAS_IMPORTED}
        after.wanted.update(uid for uid in left.again if uid in ended - live)
        after.send(second, left.again)
        yield Change(f"the sender closes {second}", left._replace(again=()), after)
    for batch_id in cloud.waiting():
        after = Cloud.thaw(frozen)
        after.admit(batch_id)
        yield Change(f"{batch_id} is admitted", left, after)
    for batch_id in cloud.stalled():
        after = Cloud.thaw(frozen)
        after.executions[batch_id] = Stage("start")
        yield Change(f"another execution of {batch_id}", left, after)
    for batch_id, stage in cloud.executions.items():
        if left.gives_up and stage.name == "start" and stage.tried:
            after = Cloud.thaw(frozen)
            after.executions[batch_id] = Stage("record", error=stage.tried, message="no")
            yield Change(f"no more starts of {batch_id}", left.spend("gives_up"), after)


def _of_job(job: Job, frozen: Frozen, left: Scope) -> Iterator[Change]:
    after, name = Cloud.thaw(frozen), job.job_id
    if job.status is JobStatus.SUBMITTED:
        after.begin(name)
        yield Change(f"{name} begins", left, after)
    elif job.status is JobStatus.IN_PROGRESS:
        after.end(name, JobStatus.COMPLETED)
        if left.slow_results:
            slow = f"{name} completes without result files"
            yield Change(slow, left.spend("slow_results"), Cloud.thaw(after.freeze()))
        after.write_results(name)
        yield Change(f"{name} completes", left, after)
        if left.refused:
            after, took = Cloud.thaw(frozen), (job.took or ())[0]
            uid = InstanceKey.parse(took).sop_instance_uid
            after.end(name, JobStatus.COMPLETED, (uid,))
            after.write_results(name)
            yield Change(f"{name} completes without {uid}", left.spend("refused"), after)
    elif job.status is JobStatus.COMPLETED and job.results < 2:
        after.write_results(name, job.results + 1)
        yield Change(f"result files of {name} appear", left, after)


def _of_failing_job(job: Job, cloud: Cloud, frozen: Frozen, left: Scope) -> Iterator[Change]:
    after, name = Cloud.thaw(frozen), job.job_id
    if not job.status.ended and left.failing_jobs:
        after.end(name, JobStatus.FAILED)
        yield Change(f"{name} fails", left.spend("failing_jobs"), after)
    # Nobody has asked for its instances again.
    is_alone = not cloud.journal.entries and len(cloud.batches.rows) == 1
    if job.status is JobStatus.FAILED and job.took and left.late and is_alone:
        after.end(name, JobStatus.COMPLETED)
        after.write_results(name)
        yield Change(f"{name} has completed after all", left.spend("late"), after)


def _of_memory(job: Job, cloud: Cloud, frozen: Frozen, left: Scope) -> Iterator[Change]:
    """What HealthImaging shows, and what it or the pipeline loses."""
    imaging, name = cloud.imaging, job.job_id
    if not job.listed:
        after = Cloud.thaw(frozen)
        after.imaging.jobs[name] = replace(job, listed=True)
        yield Change(f"the list shows {name}", left, after)
    elif left.forgets and job.batch_id not in imaging.forgotten:
        after = Cloud.thaw(frozen)
        after.imaging.forgotten.add(job.batch_id)
        yield Change(f"the clientToken of {name} is forgotten", left.spend("forgets"), after)
    if left.gone_jobs and name in cloud.jobs.rows:
        after = Cloud.thaw(frozen)
        del after.jobs.rows[name]
        yield Change(f"the record of {name} is deleted", left.spend("gone_jobs"), after)
    if left.deletions and job.uids and job.image_set_id not in imaging.deleted:
        after = Cloud.thaw(frozen)
        after.delete(name)
        yield Change(f"the image set of {name} is deleted", left.spend("deletions"), after)
