"""Leases: what one allows, when it is renewed, and that the book and the table agree about it."""

import math

import pytest
from chalicelib.stores.items import batch_from_item, batch_row
from chalicelib.stores.table import deserialize, serialize
from hypothesis import given
from hypothesis import strategies as st
from store_scp.lease_store import opening_item
from store_scp.leases import Lease, Standing

from contract.batch_states import TRANSITIONS, BatchEvent
from contract.records import BatchRecord, BatchState, Counts
from tests.unit.store_scp.test_batches import UTC_NOW

# AWS's time when the steady clock reads 0.
ORIGIN = 5_000


def granted(lease: Lease, asked_at: float) -> Lease:
    """Granted at once, by clocks that agree."""
    at_aws = ORIGIN + asked_at
    return lease.granted(asked_at, at_aws + lease.seconds, asked_at, at_aws)


def standing(lease: Lease, moment: float) -> Standing:
    return lease.standing(moment, ORIGIN + moment)


HELD = granted(Lease(60), asked_at=100)


def test_nothing_is_known_of_a_batch_before_the_table_answers() -> None:
    assert standing(Lease(60), 0) is Standing.UNKNOWN
    assert Lease(60).renews_at == -math.inf


def test_a_grant_counts_from_before_its_request() -> None:
    assert standing(HELD, 159.9) is Standing.OURS
    assert standing(HELD, 160) is Standing.UNKNOWN


def test_a_lease_is_renewed_after_a_third_of_it() -> None:
    assert HELD.renews_at == 120


def test_a_renewal_covers_the_gap_before_it() -> None:
    late = granted(HELD, asked_at=500)
    assert standing(late, 200) is Standing.OURS
    assert standing(late, 559) is Standing.OURS


def test_a_lease_is_over_once_awss_time_may_be_past_the_end_in_its_record() -> None:
    assert HELD.standing(110, ORIGIN + 160) is Standing.OURS
    assert HELD.standing(110, ORIGIN + 160.1) is Standing.UNKNOWN
    assert HELD.standing(110, ORIGIN + 700) is Standing.UNKNOWN


def test_a_grant_whose_end_was_written_by_a_wrong_time_does_not_count_and_is_renewed_at_once() -> (
    None
):
    wrong = Lease(60).granted(asked_at=100, ends_at=ORIGIN, now=100.1, latest=ORIGIN + 100.1)
    assert wrong.standing(100.1, ORIGIN + 100.1) is Standing.UNKNOWN
    assert wrong.renews_at <= 100.1
    right = wrong.granted(asked_at=100.2, ends_at=ORIGIN + 160.2, now=100.3, latest=ORIGIN + 100.3)
    assert standing(right, 100.1) is Standing.OURS
    assert right.renews_at == pytest.approx(120.2)


def test_a_lease_is_renewed_earlier_by_what_its_record_ends_earlier() -> None:
    early = Lease(60).granted(asked_at=100, ends_at=ORIGIN + 150, now=100, latest=ORIGIN + 100)
    assert early.renews_at == HELD.renews_at - 10


def test_a_table_whose_every_answer_contradicts_the_others_is_not_asked_without_a_pause() -> None:
    lease, now, asked = Lease(60), 100.0, 0
    while now < 110:
        lease = lease.granted(now, ends_at=ORIGIN, now=now + 0.01, latest=ORIGIN + 10_000)
        asked += 1
        now = max(now + 0.01, lease.hurried(now + 0.01).renews_at)
    assert asked <= 22


def test_who_waits_for_a_renewal_does_not_wait_until_it_is_due() -> None:
    assert HELD.hurried(110).renews_at == 110
    assert HELD.hurried(130).renews_at == HELD.renews_at


def test_no_answer_keeps_what_is_held_and_is_asked_for_again_soon() -> None:
    failed = HELD.unanswered(120, "lease: Timeout")
    assert standing(failed, 159) is Standing.OURS
    assert standing(failed, 160) is Standing.UNKNOWN
    assert failed.failure == "lease: Timeout"
    assert 120 < failed.renews_at <= 125
    assert granted(failed, 130).failure is None


def test_a_lease_that_is_denied_is_lost_for_every_moment() -> None:
    assert standing(HELD.denied(), 101) is Standing.RECOVERYS


def test_without_a_table_every_batch_is_ours_for_good() -> None:
    assert standing(Lease.endless(), 10**9) is Standing.OURS


@given(st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=20), st.integers(0, 1_500))
def test_ours_means_that_a_grant_covers_the_moment(
    requests: list[tuple[int, bool]], moment: int
) -> None:
    lease, now, granted_until = Lease(60), 0, -math.inf
    for pause, answered in requests:
        now += pause
        lease = granted(lease, now) if answered else lease.unanswered(now, "lease: Timeout")
        granted_until = now + 60 if answered else granted_until
    assert (standing(lease, moment) is Standing.OURS) == (moment < granted_until)


@given(st.booleans(), st.none() | st.just("d" * 32))
def test_the_record_is_what_the_pipeline_reads(urgent: bool, datastore_id: str | None) -> None:
    opened = BatchRecord(
        batch_id="20261123T093000Z-0001020304050607",
        state=TRANSITIONS[BatchEvent.OPENED][1],
        calling_ae_title="CT1",
        called_ae_title="STORESCP",
        opened_at=UTC_NOW,
        counts=Counts(0),
        datastore_id=datastore_id,
        urgent=urgent,
        owner="task/1/0a0b0c0d",
        lease_expires_at=UTC_NOW,
    )
    item = opening_item(opened)
    assert item == serialize(batch_row(opened))
    assert batch_from_item(deserialize(item)) == opened
    assert opened.state is BatchState.OPEN
