"""What a batch does about an instance, by what others have with the same checksum."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from chalicelib.imports.claim_rules import Answer, Facts, Left, decide
from chalicelib.imports.comparison import Verdict
from chalicelib.stores.instances import Change
from hypothesis import given
from hypothesis import strategies as st

from contract.records import InstanceRecord, InstanceState
from tests.unit.chalicelib.builders import (
    BATCH,
    NEWER_BATCH,
    NOW,
    an_instance,
    instance_row,
)

DIGEST, OTHER_DIGEST = "SHA256:ours", "SHA256:theirs"
SAME, OTHER, UNKNOWN, LATER = (
    Verdict.SAME,
    Verdict.OTHER_BYTES,
    Verdict.UNKNOWN,
    Verdict.LATER,
)
OURS = instance_row(BATCH, an_instance("1.2.3.1"), InstanceState.RECEIVED, NOW)
COPY = replace(OURS, beside=BATCH)
NAMED = replace(OURS, beside=DIGEST)
DIFFERS = replace(NAMED, differs=True)
FIRST = instance_row(NEWER_BATCH, an_instance("1.2.3.1", NEWER_BATCH), InstanceState.FAILED, NOW)
BESIDE = replace(FIRST, batch_id="20261123T095000Z-0001020304050607", key="beside")
THEIR_COPY = replace(BESIDE, beside=BESIDE.batch_id)
THEIR_NAMED = replace(BESIDE, beside=DIGEST)
THEIR_DIFFERS = replace(THEIR_NAMED, differs=True)
THEIR_OTHER = replace(BESIDE, beside=OTHER_DIGEST)
Others = Mapping[InstanceRecord, Verdict | None]


@pytest.mark.parametrize(
    ("mine", "others", "changes"),
    [
        ([], {}, [(None, OURS)]),
        ([COPY], {}, [(COPY, None), (None, OURS)]),
        ([OURS], {}, []),
        ([OURS, COPY], {}, [(COPY, None)]),
        ([], {FIRST: SAME}, [(FIRST, OURS)]),
        ([COPY], {FIRST: SAME}, [(COPY, None), (FIRST, OURS)]),
        ([], {FIRST: OTHER}, [(None, DIFFERS)]),
        ([COPY], {FIRST: OTHER}, [(COPY, None), (None, DIFFERS)]),
        ([DIFFERS], {FIRST: OTHER}, [(DIFFERS, DIFFERS)]),
        ([], {FIRST: UNKNOWN}, [(None, NAMED)]),
        ([COPY], {FIRST: UNKNOWN}, [(COPY, None), (None, NAMED)]),
        ([NAMED], {FIRST: OTHER}, [(NAMED, NAMED)]),
        ([], {FIRST: None}, [(None, COPY)]),
        ([COPY], {FIRST: None}, [(COPY, COPY)]),
        ([], {FIRST: OTHER, THEIR_NAMED: SAME}, [(THEIR_NAMED, DIFFERS)]),
        ([], {FIRST: UNKNOWN, THEIR_NAMED: SAME}, [(THEIR_NAMED, NAMED)]),
        ([], {FIRST: UNKNOWN, THEIR_DIFFERS: SAME}, [(THEIR_DIFFERS, DIFFERS)]),
        ([], {FIRST: OTHER, THEIR_NAMED: None}, [(None, COPY)]),
        ([], {FIRST: UNKNOWN, THEIR_NAMED: UNKNOWN}, [(None, COPY)]),
        ([], {FIRST: OTHER, THEIR_OTHER: OTHER}, [(None, DIFFERS)]),
        ([], {FIRST: UNKNOWN, THEIR_OTHER: OTHER}, [(None, NAMED)]),
        ([], {FIRST: UNKNOWN, THEIR_OTHER: UNKNOWN}, [(None, NAMED)]),
        ([], {FIRST: OTHER, THEIR_COPY: SAME}, [(THEIR_COPY, None), (None, DIFFERS)]),
        ([], {FIRST: UNKNOWN, THEIR_COPY: SAME}, [(THEIR_COPY, None), (None, NAMED)]),
        ([COPY], {FIRST: None, THEIR_COPY: SAME}, [(THEIR_COPY, None), (COPY, COPY)]),
        ([OURS], {THEIR_COPY: SAME}, [(THEIR_COPY, None), (OURS, OURS)]),
        ([OURS, COPY], {THEIR_OTHER: OTHER}, [(COPY, None), (OURS, OURS)]),
        ([], {FIRST: UNKNOWN, THEIR_COPY: UNKNOWN}, [(None, NAMED)]),
    ],
)
def test_a_row_becomes_the_batchs_own(
    mine: list[InstanceRecord],
    others: Others,
    changes: list[tuple[InstanceRecord | None, InstanceRecord | None]],
) -> None:
    """What it was compared with others for is marked, so that it need not be once more."""
    plan = decide(Facts(OURS, mine, others, frozenset()), lambda: DIGEST, knows_first_only=False)
    made = [(was, row and replace(row, compared=bool(others))) for was, row in changes]
    assert [(each.was, each.row) for each in plan.changes] == made
    assert plan.answer is Answer.OURS


def test_a_row_beside_the_first_is_made_while_the_first_is_as_it_was_compared() -> None:
    for others, made in (
        ({FIRST: OTHER}, (None, DIFFERS)),
        ({FIRST: UNKNOWN, THEIR_NAMED: SAME}, (THEIR_NAMED, NAMED)),
    ):
        facts = Facts(OURS, [COPY], others, frozenset())
        gone, placed = decide(facts, lambda: DIGEST, knows_first_only=False).changes
        assert gone == Change(COPY, None)
        guard = FIRST.row_key, FIRST
        assert placed == Change(made[0], replace(made[1], compared=True), guard)


@pytest.mark.parametrize(
    ("others", "there"),
    [
        ({}, None),
        ({THEIR_OTHER: OTHER}, None),
        ({THEIR_NAMED: SAME}, None),  # it goes before
        ({THEIR_NAMED: UNKNOWN}, THEIR_NAMED),
        ({THEIR_NAMED: None}, THEIR_NAMED),
    ],
)
def test_the_first_row_is_taken_while_none_with_the_same_digest_has_come(
    others: Others, there: InstanceRecord | None
) -> None:
    facts = Facts(OURS, [], {FIRST: SAME, **others}, frozenset())
    taken = decide(facts, lambda: DIGEST, knows_first_only=False).changes[-1]
    assert taken == Change(FIRST, replace(OURS, compared=True), (NAMED.row_key, there))


@pytest.mark.parametrize("verdict", [OTHER, UNKNOWN])
def test_an_object_that_cannot_be_read_has_no_digest_to_be_named_by(verdict: Verdict) -> None:
    facts = Facts(OURS, [], {FIRST: verdict}, frozenset())
    made = Change(None, replace(COPY, compared=True))
    assert decide(facts, lambda: None, knows_first_only=False).changes == [made]


@pytest.mark.parametrize("mine", [[], [OURS], [COPY], [OURS, COPY]])
@pytest.mark.parametrize("standing", [FIRST, THEIR_COPY])
def test_what_another_batch_stands_by_is_left_to_it(
    mine: list[InstanceRecord], standing: InstanceRecord
) -> None:
    others: Others = {FIRST: UNKNOWN, THEIR_COPY: LATER, standing: SAME}
    facts = Facts(OURS, mine, others, frozenset({standing.key}))
    plan = decide(facts, lambda: DIGEST, knows_first_only=False)
    assert plan.answer is Answer.DUPLICATE
    assert plan.changes == [Change(each, None) for each in mine if each is not OURS]
    assert plan.left == Left(standing, OURS if OURS in mine else None)


@pytest.mark.parametrize("knows_first_only", [True, False])
def test_nothing_is_taken_while_something_is_to_be_compared(knows_first_only: bool) -> None:
    facts = Facts(OURS, [COPY], {FIRST: LATER, THEIR_COPY: SAME}, frozenset())
    plan = decide(facts, lambda: DIGEST, knows_first_only=knows_first_only)
    assert (plan.answer, plan.changes) == (Answer.LATER, [])


@pytest.mark.parametrize(
    ("verdict", "answer"),
    [
        (SAME, Answer.OURS),
        (None, Answer.OURS),
        (OTHER, Answer.UNDECIDED),
        (UNKNOWN, Answer.UNDECIDED),
    ],
)
def test_the_rows_beside_are_looked_at_where_the_first_is_not_the_same(
    verdict: Verdict | None, answer: Answer
) -> None:
    facts = Facts(OURS, [], {FIRST: verdict}, frozenset())
    plan = decide(facts, lambda: DIGEST, knows_first_only=True)
    assert plan.answer is answer
    assert (plan.changes == []) is (answer is Answer.UNDECIDED)


ROWS = [FIRST, THEIR_COPY, THEIR_NAMED, THEIR_OTHER]


@given(
    st.sampled_from([[], [OURS], [COPY], [NAMED], [OURS, COPY], [NAMED, COPY]]),
    st.dictionaries(st.sampled_from(ROWS), st.sampled_from([*Verdict, None])),
    st.sets(st.sampled_from([each.key for each in ROWS])),
    st.sampled_from([DIGEST, None]),
)
def test_nothing_of_another_batch_is_touched_unless_it_is_the_same(
    mine: list[InstanceRecord], others: Others, standing: set[str], digest: str | None
) -> None:
    facts = Facts(OURS, mine, others, standing)
    plan = decide(facts, lambda: digest, knows_first_only=False)
    touched = [was for was, *_ in plan.changes if was is not None and was not in mine]
    assert all(others[each] is SAME and each.key not in standing for each in touched)
    ours = {row.row_key for row in mine}
    for was, row, _ in plan.changes:
        if row is not None:
            ours.add(row.row_key)
        elif was in mine:
            ours.remove(was.row_key)
    if plan.answer is Answer.OURS:
        assert len(ours) == 1
    if plan.left is not None:
        assert plan.left.to in facts.same
        assert ours == ({plan.left.first.row_key} if plan.left.first else set())
