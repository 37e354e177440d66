"""Whether a case ends as it would have without a crash."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from tests.pipeline.chalicelib.crash_cases import CASES
from tests.pipeline.chalicelib.crash_snapshot import Json, as_late
from tests.pipeline.chalicelib.crash_world import RESTART, NewWorld, World

# Between the two invocations, and what the first has slept.
_LATE = RESTART + timedelta(minutes=1)
# The one moment after which an event comes twice.
_SENT = "events:PutEvents", "events:put_events"
# Calls that change nothing: after AWS's names those of the ports.
_READS = {
    "dynamodb:BatchGetItem", "dynamodb:GetItem", "dynamodb:Query",
    "s3:GetObject", "s3:HeadObject", "s3:ListObjectsV2", "s3:ListMultipartUploads",
    "medical-imaging:GetDICOMImportJob", "medical-imaging:ListDICOMImportJobs",
    "medical-imaging:SearchImageSets", "medical-imaging:GetImageSetMetadata",
    "medical-imaging:GetImageSet", "medical-imaging:inventory", "medical-imaging:find",
    "medical-imaging:keeps", "image_sets:deleted",
    "blocked:get", "blocked:get_many", "blocked:next_tries",
    "batches:get", "batches:get_many", "batches:ids", "batches:lines", "instances:by_sop_instance",
    "instances:by_study", "instances:get_many", "instances:of_instances",
    "jobs:get", "jobs:get_many", "jobs:keys", "journal:get", "medical-imaging:look",
    "outbox:due", "outbox:event", "outbox:is_due", "s3:begin", "s3:digest", "s3:folders",
    "s3:head", "s3:list", "s3:metadata_of", "s3:read", "s3:digest_of_both", "studies:due",
    "studies:get", "studies:job_keys",
}  # fmt: skip


@dataclass(frozen=True)
class Reference:
    """A run without a crash: the handler's calls, and what is kept after it and in the end."""

    case: str
    names: tuple[str, ...]
    after: Json
    end: Json


def changes(names: Iterable[str]) -> int:
    """How many of the calls may change something."""
    return sum(name not in _READS for name in names)


def reference(case: str, new_world: NewWorld) -> Reference:
    function, arrange = CASES[case]
    with new_world() as world:
        world.invoke(function, arrange(world))
        assert world.calls.names, "no call was seen"
        after = world.snapshot()
        world.settle()
        end = world.contents()
    assert end["uploads"] == []
    return Reference(case, tuple(world.calls.names), after, end)


def dies_at(
    number: int, expected: Reference, new_world: NewWorld, *, always_settle: bool = False
) -> None:
    """Let the handler die right after one of its calls, and see where that ends.

    Settling takes most of the time. It may be left out where what is kept is already what a run
    without a crash leaves: the same then follows.
    """
    function, arrange = CASES[expected.case]
    with new_world() as world:
        event = arrange(world)
        world.calls.dies_at = number
        world.invoke_twice_as_it_dies(function, event)
        name = world.calls.names[number]
        if always_settle or not as_late(world.snapshot(), expected.after, _LATE):
            _settle(world, expected, f"a crash at call {number}, {name}", name in _SENT)


def repeated(expected: Reference, new_world: NewWorld) -> None:
    """Let the handler do all of its work twice."""
    function, arrange = CASES[expected.case]
    with new_world() as world:
        event = arrange(world)
        for _ in range(2):
            world.invoke(function, event)
            world.now += RESTART
        _settle(world, expected, "a repeated invocation")


def _settle(world: World, expected: Reference, what: str, is_told_twice: bool = False) -> None:
    world.settle()
    found = world.contents()
    if is_told_twice:
        found["events"] = sorted(set(found["events"]))
        assert len(world.event_ids) == len(expected.end["events"])
    assert found == expected.end, f"after {what}"
