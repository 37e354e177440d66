"""No order of an import's steps reports FAILED for what is imported, or imports it twice.

Each rule of the import that is left out is found. A scope takes some seconds; those that take
longer are for ``make test-all``.
"""

from collections.abc import Callable

import pytest

from tests.model import import_rules as rules
from tests.model.import_explorer import explore
from tests.model.import_model import Scope
from tests.model.import_rules import planted

# Tens of thousands of worlds, of which coverage would see nothing new.
pytestmark = [pytest.mark.timeout(900), pytest.mark.no_cover]

SAME, OTHER = ("1.1",), ("1.2",)
STARTS = tuple(("start", how) for how in ("lost", "denied", "throttled"))
ANY = (
    *STARTS,
    *((call, how) for call in ("look", "find", "keeps") for how in ("denied", "throttled")),
)

# One batch; two of its steps, or HealthImaging's event, stop anywhere and go on or not.
STOPPING = Scope(stops=2, events=1, failing_jobs=1)
# Anything that is asked of HealthImaging fails; starts are given up.
REFUSING = Scope(stops=1, faults=1, kinds=ANY, gives_up=1, events=1, failing_jobs=1)
# The same bytes in a second batch, both of whose imports stop anywhere.
AGAIN = Scope(again=SAME, stops=2)
# Another instance in a second batch.
BESIDE = Scope(again=OTHER, failing_jobs=1, stops=1)
# The first batch or the second fails, and is retried.
FAILING = Scope(again=SAME, failing_jobs=1, retries=1)
# The second batch was opened before the first one's retry.
EARLY = Scope(again=SAME, opened_early=True, failing_jobs=2, retries=1)
# A retry fails, and is retried.
RETRIED = Scope(retries=2, failing_jobs=2, events=1)
# A retry stops anywhere.
RETRYING = Scope(retries=1, failing_jobs=1, stops=1)
# A start has no answer, and its clientToken is forgotten.
LOST = Scope(
    faults=2, kinds=(("start", "lost"), ("start", "denied"), ("find", "denied")), forgets=1,
    gives_up=1, stops=1,
)  # fmt: skip
# A start has no answer, and the list does not show its job at once.
UNLISTED = Scope(unlisted=1, faults=2, kinds=STARTS, gives_up=1, retries=1, events=1)
UNLISTED_AGAIN = Scope(unlisted=1, faults=2, kinds=STARTS, gives_up=1, again=SAME)
# A job that was called FAILED turns COMPLETED.
LATE = Scope(late=1, failing_jobs=1, stops=1, events=1, retries=1)
# Two instances; the result files come one by one, and name a failure.
SLOW = Scope(uids=("1.1", "1.2"), slow_results=1, refused=1, events=1, stops=1)
PARTIAL = Scope(uids=("1.1", "1.2"), refused=1, retries=1, stops=1)
# Somebody deletes the image set, which is sent again.
DELETED = Scope(deletions=1, deletion_events=1, again=SAME, stops=1)
TOLD_TWICE = Scope(deletions=1, deletion_events=2, stops=1, events=1)
# A second import is forced, and may fail.
FORCED = Scope(forced=1, again=SAME, failing_jobs=1)
# Somebody deletes the manifest, or the job's record.
NO_MANIFEST = Scope(gone_manifests=1, retries=1, stops=1, failing_jobs=1)
NO_RECORD = Scope(gone_jobs=1, retries=1, events=1, failing_jobs=1, faults=1, kinds=ANY)

exhaustive = pytest.mark.exhaustive


@pytest.mark.parametrize(
    ("scope", "worlds"),
    [
        pytest.param(STOPPING, 5_000, id="stopping"),
        pytest.param(REFUSING, 3_000, id="refusing"),
        pytest.param(AGAIN, 9_000, id="again"),
        pytest.param(BESIDE._replace(stops=0), 400, id="beside"),
        pytest.param(FAILING, 500, id="failing"),
        pytest.param(EARLY, 1_000, id="early"),
        pytest.param(RETRIED, 500, id="retried"),
        pytest.param(RETRYING, 500, id="retrying"),
        pytest.param(LOST, 500, id="lost"),
        pytest.param(UNLISTED, 500, id="unlisted"),
        pytest.param(UNLISTED_AGAIN, 1_000, id="unlisted, sent again"),
        pytest.param(LATE, 5_000, id="late"),
        pytest.param(SLOW, 1_000, id="slow"),
        pytest.param(PARTIAL, 300, id="partial"),
        pytest.param(DELETED, 2_000, id="deleted"),
        pytest.param(TOLD_TWICE, 500, id="deleted, told twice"),
        pytest.param(FORCED, 500, id="forced"),
        pytest.param(NO_MANIFEST, 1_000, id="no manifest"),
        pytest.param(NO_RECORD, 500, id="no record"),
        pytest.param(
            DELETED._replace(deletion_events=2, events=1), 40_000, marks=exhaustive,
            id="deleted, told of everything",
        ),
        pytest.param(BESIDE, 10_000, marks=exhaustive, id="beside, stopping"),
        pytest.param(REFUSING._replace(faults=2), 10_000, marks=exhaustive, id="refusing twice"),
        pytest.param(FAILING._replace(stops=1), 10_000, marks=exhaustive, id="failing, stopping"),
        pytest.param(
            FAILING._replace(faults=1, kinds=ANY, gives_up=1), 5_000, marks=exhaustive,
            id="failing, refusing",
        ),
        pytest.param(LOST._replace(retries=1), 3_000, marks=exhaustive, id="lost, retried"),
        pytest.param(UNLISTED._replace(stops=1), 5_000, marks=exhaustive, id="unlisted, stopping"),
        pytest.param(
            UNLISTED_AGAIN._replace(faults=1, stops=1), 10_000, marks=exhaustive,
            id="unlisted, sent again, stopping",
        ),
        pytest.param(RETRIED._replace(stops=1), 20_000, marks=exhaustive, id="retried, stopping"),
        pytest.param(LATE._replace(events=2), 10_000, marks=exhaustive, id="late, told twice"),
        pytest.param(
            NO_MANIFEST._replace(events=1), 10_000, marks=exhaustive, id="no manifest, told"
        ),
    ],
)  # fmt: skip
def test_nothing_imported_is_called_failed_or_imported_twice(scope: Scope, worlds: int) -> None:
    with planted():
        finding, seen = explore(scope)
    assert finding is None
    assert seen > worlds


@pytest.mark.parametrize(
    ("error", "scope", "wrong"),
    [
        (rules.record_failure_unasked, REFUSING, "1.1 is FAILED, and HealthImaging has it"),
        (rules.record_failure_unlooked, LOST, "1.1 is FAILED, and HealthImaging has it"),
        (rules.list_believed, UNLISTED, "1.1 is FAILED, and HealthImaging has it"),
        (rules.list_believed, UNLISTED_AGAIN, "1.1"),
        (rules.no_mark, LOST, "1.1 is imported twice"),
        (rules.mark_cleared, UNLISTED, "1.1 is FAILED, and HealthImaging has it"),
        (rules.retry_unasked, LATE, "failed=1"),
        (rules.late_ignored, LATE, "failed=1"),
        (rules.failure_hides_import, LATE, "1.1 is FAILED, and HealthImaging has it"),
        (rules.age_limit_fails, STOPPING, "1.1 is FAILED, and HealthImaging has it"),
        (rules.results_early, SLOW, "is FAILED, and HealthImaging has it"),
        (rules.claim_unverified, DELETED, "1.1 was sent again and is not imported"),
        (rules.only_imported_stands, AGAIN, "1.1 is imported twice"),
        (rules.blind_writes, AGAIN, "1.1 is imported twice"),
        (rules.deletion_not_noted, DELETED, "1.1 is IMPORTED, and HealthImaging does not have it"),
        (rules.deletion_not_settled, DELETED, "1.1 is IMPORTED, and HealthImaging does not"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_planted_error_is_found(
    error: Callable[[pytest.MonkeyPatch], None], scope: Scope, wrong: str
) -> None:
    with planted(error):
        finding, _ = explore(scope)
    assert finding is not None
    assert wrong in finding.wrong
    assert finding.trace
