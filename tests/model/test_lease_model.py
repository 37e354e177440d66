"""No order of events loses an acknowledged instance or imports one twice; each planted error does.

Scopes are as large as fits into some seconds, and into half a minute for ``make test-all``. What
is small in one is large in another.
"""

import pytest

from tests.model.explorer import explore
from tests.model.world import GRACE, Rules, Scope

# Tens of thousands of worlds, of which coverage would see nothing new.
pytestmark = [pytest.mark.timeout(900), pytest.mark.no_cover]

# One instance, sent once; recovery may crash, the table may be slow or silent.
SLOW = Scope(ticks=4, sends=1)
# One instance, sent again where it was not acknowledged, beyond the end of two leases.
AGAIN = Scope(ticks=3, sends=2, crashes=0, silences=0, slow_table=False)
# Two instances that may share a batch.
SHARED = Scope(instances=2, ticks=3, sends=2, crashes=0, silences=0, slow_table=False)
# A sender that changes from one worker to the other and back; no lease runs out.
MOVING = Scope(workers=2, ticks=0, sends=3, crashes=0, silences=0, slow_table=False)
# One instance that either of two workers has, beyond the end of two leases.
BOTH = Scope(workers=2, ticks=3, sends=2, crashes=0, silences=0, slow_table=False)
# One instance, sent again, while recovery may crash.
CRASHING = Scope(ticks=4, sends=2, silences=0, slow_table=False)
# One instance, while the receiver's machine stops beyond the end of a lease and the grace.
STOPPING = Scope(ticks=4, sends=1, stops=3, crashes=0, slow_table=False)


@pytest.mark.parametrize(
    ("scope", "worlds"),
    [
        (SLOW, 10_000),
        (AGAIN, 20_000),
        (SHARED, 50_000),
        (MOVING, 7_000),
        (STOPPING, 10_000),
        # Half a minute each.
        pytest.param(BOTH, 200_000, marks=pytest.mark.exhaustive),
        pytest.param(CRASHING, 200_000, marks=pytest.mark.exhaustive),
    ],
)
def test_nothing_acknowledged_is_lost_or_imported_twice(scope: Scope, worlds: int) -> None:
    finding, seen = explore(scope, Rules())
    assert finding is None
    assert seen > worlds


def test_a_clock_that_is_behind_by_the_grace_loses_nothing() -> None:
    """What is left of the grace for the error of the time that was measured."""
    finding, _ = explore(SLOW, Rules(clock_behind=GRACE))
    assert finding is None


@pytest.mark.parametrize(
    ("rules", "scope", "wrong"),
    [
        (Rules(acknowledge_unchecked=True), SLOW, "1.1 was acknowledged and is not imported"),
        # Where AWS's time is compared, too, that alone would do.
        (
            Rules(lease_from_answer=True, steady_alone=True),
            SLOW,
            "1.1 was acknowledged and is not imported",
        ),
        (Rules(renew_anyones=True), SLOW, "1.1 was acknowledged and is not imported"),
        (Rules(no_fence=True), SLOW, "1.1 was acknowledged and is not imported"),
        (Rules(fence_anyones=True), SLOW, "1.1 was acknowledged and is not imported"),
        (Rules(recover_half=True), SHARED, "1.2 was acknowledged and is not imported"),
        (Rules(no_sweep=True), SHARED, "is imported and not listed"),
        # Why a batch claims its instances in the ledger before its job starts.
        (Rules(no_claim=True), SLOW, "1.1 is imported twice"),
        (Rules(no_claim=True), MOVING, "1.1 is imported twice"),
        # Why a receiver leaves an object where it is, once recovery may have listed it.
        (Rules(delete_stray=True), SLOW, "1.1 is listed and missing"),
        # Why a lease's end is written by AWS's time, and not by a clock that may be minutes slow.
        (Rules(clock_behind=GRACE + 1), SLOW, "1.1 was acknowledged and is not imported"),
        # Why a lease does not count by the steady clock alone, which may have missed time.
        (Rules(steady_alone=True), STOPPING, "1.1 was acknowledged and is not imported"),
        # The gap that grace makes unlikely, and that nothing closes: S3 cannot fence a PUT.
        (Rules(late_after_sweep=True), SHARED, "is imported and not listed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_planted_error_is_found(rules: Rules, scope: Scope, wrong: str) -> None:
    finding, _ = explore(scope, rules)
    assert finding is not None
    assert wrong in finding.wrong
    assert finding.trace
