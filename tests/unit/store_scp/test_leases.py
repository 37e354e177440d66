"""Leases: what one allows, when it is renewed, and that the book and the table agree about it."""

import math

from chalicelib.stores.items import batch_from_item, batch_row
from chalicelib.stores.table import deserialize, serialize
from hypothesis import given
from hypothesis import strategies as st
from store_scp.lease_store import opening_item
from store_scp.leases import Lease, Standing

from contract.batch_states import TRANSITIONS, BatchEvent
from contract.records import BatchRecord, BatchState, Counts
from tests.unit.store_scp.test_batches import UTC_NOW

HELD = Lease(60).granted(asked_at=100)


def test_nothing_is_known_of_a_batch_before_the_table_answers() -> None:
    assert Lease(60).standing(0) is Standing.UNKNOWN
    assert Lease(60).renews_at == -math.inf


def test_a_grant_counts_from_before_its_request() -> None:
    assert HELD.standing(159.9) is Standing.OURS
    assert HELD.standing(160) is Standing.UNKNOWN


def test_a_lease_is_renewed_after_a_third_of_it() -> None:
    assert HELD.renews_at == 120


def test_a_renewal_covers_the_gap_before_it() -> None:
    late = HELD.granted(asked_at=500)
    assert late.standing(200) is Standing.OURS
    assert late.standing(559) is Standing.OURS


def test_no_answer_keeps_what_is_held_and_is_asked_for_again_soon() -> None:
    failed = HELD.unanswered(120, "lease: Timeout")
    assert failed.standing(159) is Standing.OURS
    assert failed.standing(160) is Standing.UNKNOWN
    assert failed.failure == "lease: Timeout"
    assert 120 < failed.renews_at <= 125
    assert failed.granted(130).failure is None


def test_a_lease_that_is_denied_is_lost_for_every_moment() -> None:
    assert HELD.denied().standing(101) is Standing.RECOVERYS


def test_without_a_table_every_batch_is_ours_for_good() -> None:
    assert Lease.endless().standing(10**9) is Standing.OURS


@given(st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=20), st.integers(0, 1_500))
def test_ours_means_that_a_grant_covers_the_moment(
    requests: list[tuple[int, bool]], moment: int
) -> None:
    lease, now, granted_until = Lease(60), 0, -math.inf
    for pause, answered in requests:
        now += pause
        lease = lease.granted(now) if answered else lease.unanswered(now, "lease: Timeout")
        granted_until = now + 60 if answered else granted_until
    assert (lease.standing(moment) is Standing.OURS) == (moment < granted_until)


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
