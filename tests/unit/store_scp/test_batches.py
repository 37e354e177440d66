import dataclasses
import math
from collections import Counter
from datetime import UTC, datetime
from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from store_scp.batches import BatchBook, BatchLimits, Placement
from store_scp.instance import Instance, Route

from contract.checksums import Checksum
from contract.keys import InstanceKey, new_batch_id
from contract.manifest import CloseReason, Manifest
from tests.unit.store_scp.builders import LIMITS, instance

UTC_NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
BODY = b"pixels"


def book(limits: BatchLimits = LIMITS) -> BatchBook:
    numbers = count()
    return BatchBook(limits, lambda: new_batch_id(UTC_NOW, next(numbers).to_bytes(8)))


def place(store: BatchBook, one: Instance, now: float = 0, body: bytes = BODY) -> Placement:
    return store.place(one, now, len(body))


def put(store: BatchBook, one: Instance, now: float = 0, body: bytes = BODY) -> Placement:
    """Place an instance, and say that its PUT succeeded."""
    placement = place(store, one, now, body)
    store.stored(placement, now, len(body), Checksum.of(body))
    return placement


def repeated(store: BatchBook, one: Instance, now: float = 0, body: bytes = BODY) -> bool:
    """Whether an instance with the same bytes is there, which is what comparing them showed."""
    found = store.candidates(one, len(body), Checksum.of(body))
    return any(store.repeated(one, known, now) for known in found)


def closed(store: BatchBook, now: float) -> list[tuple[CloseReason, int]]:
    """What closes by ``now``: why, and with how many instances."""
    return [(each.close_reason, len(each.instances)) for each in store.due(now, UTC_NOW)]


def test_a_key_follows_from_batch_and_uids() -> None:
    placement = put(book(), instance("1.2.3.4"))
    assert InstanceKey.parse(placement.key) == InstanceKey(
        placement.batch_id, "1.2.3", "1.2.3.3", "1.2.3.4"
    )


def test_a_batch_closes_after_the_short_quiet_once_no_association_holds_it() -> None:
    store = book()
    put(store, instance("1.1"))
    put(store, instance("1.2"), now=2)
    store.association_ended("a1")
    assert store.next_due() == 7
    assert closed(store, 6.9) == []
    assert closed(store, 7) == [(CloseReason.QUIET, 2)]


def test_a_batch_closes_after_the_long_quiet_while_an_association_holds_it() -> None:
    store = book()
    put(store, instance("1.1"))
    put(store, instance("1.2", association_id="a2"))
    store.association_ended("a2")
    assert store.next_due() == 30
    assert closed(store, 29) == []
    assert closed(store, 30) == [(CloseReason.QUIET, 2)]


@pytest.mark.parametrize(("held", "quiet"), [(True, 30), (False, 5)])
@pytest.mark.parametrize("success", [True, False])
def test_quiet_counts_from_the_answer_to_a_slow_put(success: bool, held: bool, quiet: int) -> None:
    store = book()
    put(store, instance("1.1"))
    slow = place(store, instance("1.2"), now=1)
    if not held:
        store.association_ended("a1")
    if success:
        due = store.stored(slow, 100, len(BODY), Checksum.of(BODY))
    else:
        due = store.failed(slow, 100)
    assert due == store.next_due() == 100 + quiet
    assert closed(store, 99.9 + quiet) == []
    assert closed(store, 100 + quiet) == [(CloseReason.QUIET, 1 + success)]


def test_the_manifest_says_who_sent_what() -> None:
    store = book()
    placement = put(store, instance("1.1", association_id="a1"))
    put(store, instance("1.2", association_id="a2"))
    (manifest,) = store.due(40, UTC_NOW)
    assert manifest.batch_id == placement.batch_id
    assert manifest.closed_at == UTC_NOW
    assert manifest.datastore_id is None
    assert manifest.source.calling_ae_title == "CT1"
    assert manifest.source.association_ids == ("a1", "a2")
    assert manifest.source.peer_addresses == ("192.0.2.7",)
    assert [each.sop_instance_uid for each in manifest.instances] == ["1.1", "1.2"]
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_a_batch_full_of_files_closes_at_once() -> None:
    store = book()
    for number in range(5):
        put(store, instance(f"1.{number}"))
    assert store.next_due() == -math.inf
    assert closed(store, 0) == [(CloseReason.FULL, 4)]


def test_a_batch_that_cannot_hold_the_next_bytes_closes() -> None:
    store = book()
    first = put(store, instance("1.1"), body=bytes(2_000))
    second = put(store, instance("1.2"), body=bytes(2_000))
    assert first.batch_id != second.batch_id
    assert closed(store, 0) == [(CloseReason.FULL, 1)]


# Of two instances of 2,000 bytes, each bound has room for the bytes and metadata, and no more.
EXACT = {
    "bytes": dataclasses.replace(LIMITS, max_bytes=4_000),
    "metadata": dataclasses.replace(LIMITS, max_bytes=10**9, max_metadata_bytes=4_000),
}


@pytest.mark.parametrize("limits", EXACT.values(), ids=EXACT.keys())
def test_a_batch_is_filled_up_to_its_bound(limits: BatchLimits) -> None:
    store = book(limits)
    first = put(store, instance("1.1"), body=bytes(2_000))
    assert put(store, instance("1.2"), body=bytes(2_000)).batch_id == first.batch_id
    assert closed(store, 0) == []
    assert put(store, instance("1.3"), body=b"1").batch_id != first.batch_id
    assert closed(store, 0) == [(CloseReason.FULL, 2)]


@pytest.mark.parametrize("size", [2_000, None], ids=["size known", "size not known"])
@pytest.mark.parametrize("limits", EXACT.values(), ids=EXACT.keys())
def test_a_failed_put_gives_its_room_back_and_no_more(
    limits: BatchLimits, size: int | None
) -> None:
    store = book(dataclasses.replace(limits, max_instance_bytes=2_000))
    first = put(store, instance("1.1"), body=bytes(2_000))
    for number in range(3):
        failing = store.place(instance(f"2.{number}"), 0, size)
        assert failing.batch_id == first.batch_id
        store.failed(failing, 0)
    assert put(store, instance("1.2"), body=bytes(2_000)).batch_id == first.batch_id
    assert put(store, instance("1.3"), body=b"1").batch_id != first.batch_id
    assert closed(store, 0) == [(CloseReason.FULL, 2)]


def test_a_failed_put_gives_its_files_place_back_and_no_more() -> None:
    store = book()
    failed = place(store, instance("1.1"))
    store.failed(failed, 0)
    for number in range(10):
        again = place(store, instance(f"2.{number}"))
        assert again.batch_id == failed.batch_id
        store.failed(again, 0)
    assert {put(store, instance(f"3.{n}")).batch_id for n in range(4)} == {failed.batch_id}
    assert put(store, instance("1.2")).batch_id != failed.batch_id
    assert closed(store, 0) == [(CloseReason.FULL, 4)]


def test_an_instance_larger_than_a_batch_gets_one_for_itself() -> None:
    store = book()
    huge = put(store, instance("1.1"), body=bytes(9_000))
    assert put(store, instance("1.2")).batch_id != huge.batch_id


def test_a_batch_whose_puts_all_failed_takes_an_instance_larger_than_a_batch() -> None:
    store = book()
    failed = place(store, instance("1.1"), body=bytes(9_000))
    store.failed(failed, 0)
    assert put(store, instance("1.2"), body=bytes(9_000)).batch_id == failed.batch_id


def test_a_batch_closes_when_it_is_old_however_busy() -> None:
    store = book(dataclasses.replace(LIMITS, max_files=5_000, max_bytes=10**9))
    for second in range(0, 901, 10):
        put(store, instance(f"1.{second}"), now=second)
    assert closed(store, 901) == [(CloseReason.AGE, 90)]


def test_a_batch_that_was_full_before_it_was_old_says_full() -> None:
    store = book()
    slow = place(store, instance("1.0"))
    for number in range(1, 4):
        put(store, instance(f"1.{number}"))
    place(store, instance("1.9"), now=901)
    store.stored(slow, 901, len(BODY), Checksum.of(BODY))
    assert closed(store, 901) == [(CloseReason.FULL, 4)]


def test_a_batch_that_was_old_before_it_was_full_says_age() -> None:
    store = book()
    slow = place(store, instance("1.1"), body=bytes(2_000))
    place(store, instance("1.2"), now=901, body=bytes(2_000))
    store.stored(slow, 901, 2_000, Checksum.of(bytes(2_000)))
    assert closed(store, 901) == [(CloseReason.AGE, 1)]


def test_age_is_found_by_the_clock_alone_too() -> None:
    store = book(dataclasses.replace(LIMITS, held_quiet_seconds=2_000))
    put(store, instance("1.1"))
    assert closed(store, 899) == []
    assert closed(store, 900) == [(CloseReason.AGE, 1)]


def test_nothing_closes_under_a_put_in_flight() -> None:
    store = book()
    slow = place(store, instance("1.1"))
    store.association_ended("a1")
    store.close_all()
    assert store.next_due() == math.inf
    assert closed(store, 10_000) == []
    store.stored(slow, 10_000, len(BODY), Checksum.of(BODY))
    assert closed(store, 10_000) == [(CloseReason.SHUTDOWN, 1)]


def test_a_batch_whose_puts_all_failed_vanishes() -> None:
    store = book()
    store.failed(place(store, instance("1.1")), 0)
    assert not store.is_empty
    assert closed(store, 30) == []
    assert store.is_empty


def test_studies_senders_and_routes_do_not_share_a_batch() -> None:
    store = book()
    urgent = Route(by_study=True, urgent=True)
    ids = {
        put(store, instance("1.1")).batch_id,
        put(store, instance("1.2", study="1.9")).batch_id,
        put(store, instance("1.3", calling="MR1")).batch_id,
        put(store, instance("1.4", route=Route(by_study=True, datastore_id="other"))).batch_id,
        put(store, instance("1.5", route=urgent)).batch_id,
    }
    assert len(ids) == 5
    assert put(store, instance("1.6")).batch_id in ids


def test_the_manifest_says_where_to_and_how_soon() -> None:
    store = book()
    put(store, instance(route=Route(by_study=True, datastore_id="d" * 32, urgent=True)))
    (manifest,) = store.due(40, UTC_NOW)
    assert (manifest.datastore_id, manifest.urgent) == ("d" * 32, True)


def test_mixed_batches_hold_any_study_of_one_sender() -> None:
    store = book()
    mixed = Route(by_study=False)
    first = put(store, instance("1.1", study="1.8", route=mixed))
    assert put(store, instance("1.2", study="1.9", route=mixed)).batch_id == first.batch_id
    other = put(store, instance("1.3", calling="MR1", route=mixed))
    assert other.batch_id != first.batch_id


def test_a_repeated_instance_is_known_and_keeps_its_batch_busy() -> None:
    store = book()
    put(store, instance("1.1"))
    assert repeated(store, instance("1.1", association_id="a2"), 4)
    store.association_ended("a1")
    assert store.next_due() == 34
    assert closed(store, 34) == [(CloseReason.QUIET, 1)]


def test_other_bytes_under_a_uid_go_beside_and_overwrite_nothing() -> None:
    store = book()
    first = put(store, instance("1.1"))
    assert not repeated(store, instance("1.1"), body=b"other")
    second = put(store, instance("1.1"), body=b"other")
    assert first.key != second.key
    assert repeated(store, instance("1.1"), body=b"other")


def test_the_same_uid_in_flight_is_not_awaited() -> None:
    store = book()
    first = place(store, instance("1.1"))
    assert not repeated(store, instance("1.1"))
    assert place(store, instance("1.1")).batch_id != first.batch_id


def test_the_same_checksum_is_a_candidate_and_goes_beside_unless_the_bytes_are_the_same() -> None:
    store = book()
    first = put(store, instance("1.1"))
    (known,) = store.candidates(instance("1.1"), len(BODY), Checksum.of(BODY))
    assert known.key == first.key
    assert store.candidates(instance("1.1"), len(BODY) + 1, Checksum.of(BODY)) == []
    assert put(store, instance("1.1")).batch_id != first.batch_id


def test_of_many_with_one_checksum_only_the_newest_are_compared() -> None:
    store = book()
    keys = [put(store, instance("1.1")).key for _ in range(10)]
    found = store.candidates(instance("1.1"), len(BODY), Checksum.of(BODY))
    assert [each.key for each in found] == keys[:-5:-1]


@pytest.mark.parametrize("end", ["closed", "lost"])
def test_what_was_compared_while_its_batch_ended_is_no_repetition(end: str) -> None:
    store = book()
    first = put(store, instance("1.1"))
    (known,) = store.candidates(instance("1.1"), len(BODY), Checksum.of(BODY))
    if end == "closed":
        assert len(closed(store, 30)) == 1
    else:
        store.lost(first.batch_id)
    assert not store.repeated(instance("1.1"), known, 30)


@pytest.mark.fault("forged-checksum")
def test_a_failed_puts_key_is_not_used_again_since_it_may_land_yet() -> None:
    store = book()
    first = place(store, instance("1.1"))
    store.failed(first, 0)
    assert place(store, instance("1.1")).batch_id != first.batch_id
    assert place(store, instance("1.2")).batch_id == first.batch_id


def test_a_reservation_for_an_unknown_size_seals_nothing() -> None:
    store = book()
    streamed = store.place(instance("1.1"), 0, None)
    beside = put(store, instance("1.2"), body=bytes(600))
    assert beside.batch_id != streamed.batch_id  # 3,100 bytes might be too many
    store.stored(streamed, 0, 200, Checksum.of(bytes(200)))
    assert put(store, instance("1.3"), body=bytes(600)).batch_id == streamed.batch_id


def test_an_unknown_size_never_closes_a_batch_that_has_room_for_others() -> None:
    store = book()
    first = put(store, instance("1.1"), body=bytes(2_500))
    assert store.place(instance("1.2"), 0, None).batch_id != first.batch_id
    assert put(store, instance("1.3"), body=bytes(100)).batch_id == first.batch_id


@pytest.mark.parametrize("success", [True, False])
def test_a_stream_that_has_landed_spares_no_batch_that_is_full(success: bool) -> None:
    store = book()
    first = put(store, instance("1.1"), body=bytes(400))
    streamed = store.place(instance("1.2"), 0, None)
    assert streamed.batch_id == first.batch_id
    if success:
        store.stored(streamed, 0, 400, Checksum.of(bytes(400)))
    else:
        store.failed(streamed, 0)
    assert put(store, instance("1.3"), body=bytes(2_700)).batch_id != first.batch_id
    assert closed(store, 0) == [(CloseReason.FULL, 1 + success)]


def test_an_instance_on_its_way_whose_size_is_known_spares_no_batch_that_is_full() -> None:
    store = book()
    slow = place(store, instance("1.1"), body=bytes(2_000))
    assert put(store, instance("1.2"), body=bytes(2_000)).batch_id != slow.batch_id
    store.stored(slow, 0, 2_000, Checksum.of(bytes(2_000)))
    assert closed(store, 0) == [(CloseReason.FULL, 1)]


def test_a_failed_stream_leaves_its_key_taken() -> None:
    store = book()
    streamed = store.place(instance("1.1"), 0, None)
    store.failed(streamed, 0)
    assert place(store, instance("1.1")).batch_id != streamed.batch_id


def test_a_size_not_known_yet_reserves_the_most_and_gives_the_rest_back() -> None:
    store = book()
    large = store.place(instance("1.1"), 0, None)
    assert store.place(instance("1.2"), 0, None).batch_id != large.batch_id
    store.stored(large, 0, 100, Checksum.of(bytes(100)))
    assert put(store, instance("1.3"), body=bytes(600)).batch_id == large.batch_id


def test_a_batch_that_cannot_hold_the_next_metadata_closes() -> None:
    # Small objects are all metadata; of large ones, 8,000 bytes and half a percent count.
    roomy = dataclasses.replace(LIMITS, max_bytes=10**9, max_metadata_bytes=20_000)
    store = book(roomy)
    first = put(store, instance("1.1"), body=bytes(400_000))
    assert put(store, instance("1.2"), body=bytes(9_000)).batch_id == first.batch_id
    assert put(store, instance("1.3"), body=bytes(2_000)).batch_id != first.batch_id
    assert closed(store, 0) == [(CloseReason.FULL, 2)]


def test_a_lost_batch_takes_no_more_and_has_no_manifest() -> None:
    store = book()
    first = put(store, instance("1.1"))
    assert store.lost(first.batch_id) == -math.inf
    assert not repeated(store, instance("1.1"))
    assert place(store, instance("1.2")).batch_id != first.batch_id
    assert closed(store, 0) == []
    assert first.batch_id not in store.unwritten()


def test_a_lost_batch_is_remembered_until_nothing_is_in_flight_into_it() -> None:
    store = book()
    slow = place(store, instance("1.1"))
    assert store.lost(slow.batch_id) == math.inf
    assert closed(store, 1_000) == []
    assert store.unwritten() == (slow.batch_id,)
    assert store.failed(slow, 1_000) == -math.inf
    assert closed(store, 1_000) == []
    assert store.is_empty


def test_a_batch_lost_while_its_manifest_is_written_is_forgotten_either_way() -> None:
    store = book()
    one, other = put(store, instance("1.1")), put(store, instance("1.2", study="1.9"))
    assert len(store.due(30, UTC_NOW)) == 2
    for each in (one, other):
        store.lost(each.batch_id)
    store.manifest_written(one.batch_id)
    store.manifest_failed(other.batch_id, 40)
    assert store.is_empty
    assert store.next_due() == math.inf


def test_a_manifest_is_handed_out_again_once_writing_it_failed() -> None:
    store = book()
    placement = put(store, instance("1.1"))
    assert len(store.due(30, UTC_NOW)) == 1
    assert store.due(30, UTC_NOW) == ()
    store.manifest_failed(placement.batch_id, retry_at=60)
    assert store.due(59, UTC_NOW) == ()
    assert store.next_due() == 60
    assert store.unwritten() == (placement.batch_id,)
    assert len(store.due(60, UTC_NOW)) == 1
    store.manifest_written(placement.batch_id)
    assert store.is_empty
    assert store.next_due() == math.inf


@pytest.mark.parametrize("reason", [CloseReason.FULL, CloseReason.SHUTDOWN])
def test_closing_all_keeps_an_earlier_reason(reason: CloseReason) -> None:
    store = book()
    for number in range(4 if reason is CloseReason.FULL else 1):
        put(store, instance(f"1.{number}"))
    store.close_all()
    assert [why for why, _ in closed(store, 0)] == [reason]


class BatchBookMachine(RuleBasedStateMachine):
    """Any life of a book: nothing acknowledged is lost, doubled or overwritten; limits hold."""

    def __init__(self) -> None:
        super().__init__()
        self.book = book()
        self.now = 0.0
        self.in_flight: list[tuple[Placement, bytes]] = []
        self.acknowledged: dict[str, bytes] = {}
        self.keys: set[str] = set()
        self.written: list[Manifest] = []
        self.handed_out: list[str] = []
        self.recovered: set[str] = set()

    @rule(
        sop=st.integers(1, 8),
        study=st.integers(1, 2),
        body=st.sampled_from([b"a", b"b", bytes(1_500), bytes(4_000)]),
        association=st.sampled_from(["a1", "a2"]),
        streamed=st.booleans(),
    )
    def place(self, sop: int, study: int, body: bytes, association: str, streamed: bool) -> None:
        one = instance(f"1.{sop}", study=f"2.{study}", association_id=association)
        if repeated(self.book, one, self.now, body):
            assert body in self.acknowledged.values()
            return
        # The receiver refuses an instance that grows beyond its limit as it arrives (A700H), so a
        # larger one has its size from the start.
        arrives = streamed and len(body) <= LIMITS.max_instance_bytes
        placement = self.book.place(one, self.now, None if arrives else len(body))
        assert placement.key not in self.keys  # one key, one PUT
        self.keys.add(placement.key)
        assert placement.batch_id not in self.recovered
        assert placement.batch_id not in self.handed_out
        self.in_flight.append((placement, body))

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data(), success=st.booleans())
    def land(self, data: st.DataObject, success: bool) -> None:
        placement, body = self.in_flight.pop(data.draw(st.integers(0, len(self.in_flight) - 1)))
        if success and placement.batch_id not in self.recovered:
            self.book.stored(placement, self.now, len(body), Checksum.of(body))
            self.acknowledged[placement.key] = body
        else:
            self.book.failed(placement, self.now)

    @rule(seconds=st.sampled_from([1, 5, 31, 901]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(association=st.sampled_from(["a1", "a2"]))
    def end_association(self, association: str) -> None:
        self.book.association_ended(association)

    @precondition(lambda self: self.book.unwritten())
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        known = sorted(set(self.book.unwritten()) - self.recovered)
        if known:
            self.recovered.add(lost := data.draw(st.sampled_from(known)))
            self.book.lost(lost)

    @rule()
    def hand_out(self) -> None:
        for manifest in self.book.due(self.now, UTC_NOW):
            assert manifest.batch_id not in {each.batch_id for each, _ in self.in_flight}
            assert manifest.batch_id not in self.recovered
            assert len(manifest.instances) <= LIMITS.max_files
            size = sum(each.size for each in manifest.instances)
            assert size <= LIMITS.max_bytes or len(manifest.instances) == 1
            self.handed_out.append(manifest.batch_id)
            self.written.append(manifest)

    @precondition(lambda self: self.handed_out)
    @rule(success=st.booleans())
    def write(self, success: bool) -> None:
        batch_id = self.handed_out.pop()
        if success:
            self.book.manifest_written(batch_id)
        else:
            self.written = [each for each in self.written if each.batch_id != batch_id]
            self.book.manifest_failed(batch_id, self.now + 10)

    @invariant()
    def nothing_overdue_is_forgotten(self) -> None:
        if not self.in_flight and not self.handed_out and not self.book.is_empty:
            assert self.book.next_due() < math.inf

    def teardown(self) -> None:
        self.book.close_all()
        for placement, _ in self.in_flight:
            self.book.failed(placement, self.now)
        for batch_id in self.handed_out:
            self.book.manifest_written(batch_id)
        for manifest in self.book.due(self.now + 1_000, UTC_NOW):
            self.written.append(manifest)
            self.book.manifest_written(manifest.batch_id)
        assert self.book.is_empty
        ours = [each for each in self.written if each.batch_id not in self.recovered]
        keys = Counter(each.key for manifest in ours for each in manifest.instances)
        theirs = {key for key in self.acknowledged if key.split("/")[1] in self.recovered}
        assert keys == dict.fromkeys(self.acknowledged.keys() - theirs, 1)


TestAnyLifeOfABook = BatchBookMachine.TestCase
TestAnyLifeOfABook.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
