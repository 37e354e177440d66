import struct
from collections.abc import Sequence
from itertools import product

import pytest

from contract.header import Defect, HeaderUnreadable
from tests.unit.contract.headers import (
    ELEMENT,
    EMPTY_ITEM,
    EXPECTED,
    read,
    refusal,
    sequence,
    unreadable,
    with_sequence,
)
from tests.unit.store_scp.builders import (
    ITEM,
    ITEM_END,
    SEQUENCE_END,
    SERIES,
    STUDY,
    UNDEFINED,
    data_set,
    element,
)


def test_sequences_of_undefined_length_are_stepped_over() -> None:
    inner = element((0x0020, 0x000D), b"UI", b"9.9.9\x00")  # an element inside is not the header's
    item = struct.pack("<HHI", 0xFFFE, 0xE000, len(inner)) + inner
    body = ITEM + inner + ITEM_END + item + SEQUENCE_END
    encoded = element((0x0008, 0x1140), b"SQ", body, length=UNDEFINED)
    assert read(with_sequence(encoded)) == EXPECTED


def test_a_sequence_written_as_un_holds_implicit_vr() -> None:
    inner = element((0x0009, 0x0010), b"", b"x" * 6, explicit=False)
    nested = element((0x0009, 0x1001), b"", ITEM + ITEM_END + SEQUENCE_END, explicit=False)
    nested = nested[:4] + struct.pack("<I", UNDEFINED) + nested[8:]
    body = ITEM + inner + nested + ITEM_END + SEQUENCE_END
    encoded = element((0x0009, 0x1000), b"UN", body, length=UNDEFINED)
    deep = element((0x0008, 0x1140), b"SQ", ITEM + encoded + ITEM_END, length=UNDEFINED)
    assert read(with_sequence(encoded)) == EXPECTED
    assert read(with_sequence(deep + SEQUENCE_END)) == EXPECTED


@pytest.mark.parametrize("explicit", [True, False], ids=["explicit", "implicit"])
def test_what_follows_a_sequence_is_read_as_what_was_before_it(explicit: bool) -> None:
    inner = element((0x0009, 0x1000), b"LO", b"12345678", explicit=explicit)
    opening = element((0x0009, 0x1000), b"SQ", b"", explicit=explicit, length=UNDEFINED) + ITEM
    closing = inner + ITEM_END + SEQUENCE_END
    whole = data_set(explicit=explicit)
    at = whole.index(struct.pack("<HH", *STUDY))
    nested = opening + inner + opening + inner + closing + closing
    assert read(whole[:at] + inner + nested + inner + whole[at:]) == EXPECTED


# Most go on as if what is out of place had not been there, so that nothing but its place is wrong.
OUT_OF_ORDER = {
    "an item's end without an item": ITEM_END + ITEM + ITEM_END + SEQUENCE_END,
    "an item's end behind a whole item": EMPTY_ITEM + ITEM_END + SEQUENCE_END,
    "an item's end twice": ITEM + ITEM_END + ITEM_END + SEQUENCE_END,
    "a sequence's end in an item": ITEM + SEQUENCE_END + ITEM_END + SEQUENCE_END,
    "a sequence's end for an item's": ITEM + SEQUENCE_END + SEQUENCE_END,
    "an item's end for a sequence's": ITEM + ITEM_END + ITEM_END,
    "an element beside the items": ELEMENT + ITEM + ITEM_END + SEQUENCE_END,
    "a sequence beside the items": sequence(1) + ITEM + ITEM_END + SEQUENCE_END,
    "an item in an item": ITEM + EMPTY_ITEM + ITEM_END + SEQUENCE_END,
    "an open item in an item": ITEM + ITEM + ITEM_END + ITEM_END + SEQUENCE_END,
    "an item that stays open": ITEM + ITEM + ITEM_END,
    "nothing closes": ITEM,
}


@pytest.mark.parametrize("body", OUT_OF_ORDER.values(), ids=OUT_OF_ORDER.keys())
@pytest.mark.parametrize("levels", [0, 1])
def test_items_and_sequences_out_of_order_are_unreadable(body: bytes, levels: int) -> None:
    encoded = element((0x0008, 0x1140), b"SQ", body, length=UNDEFINED)
    assert refusal(with_sequence(sequence(levels, encoded))) is Defect.UNREADABLE_HEADER


OPEN = element((0x0008, 0x1140), b"SQ", b"", length=UNDEFINED)


def is_in_order(parts: Sequence[bytes]) -> bool:
    """PS3.5 7.5, of what stands behind the beginning of a sequence."""
    goes_on = {"": {ELEMENT, OPEN}, "sequence": {ITEM, EMPTY_ITEM}, "item": {ELEMENT, OPEN}}
    closes = {"": None, "sequence": SEQUENCE_END, "item": ITEM_END}
    levels = ["", "sequence"]
    for part in parts:
        if part == closes[levels[-1]]:
            levels.pop()
        elif part not in goes_on[levels[-1]]:
            return False
        elif part in (OPEN, ITEM):
            levels.append("sequence" if part == OPEN else "item")
    return levels == [""]


@pytest.mark.parametrize("count", range(5))
def test_items_and_sequences_are_stepped_over_in_this_order_and_in_no_other(count: int) -> None:
    kinds = (ITEM, EMPTY_ITEM, ITEM_END, SEQUENCE_END, ELEMENT, OPEN)
    for parts in product(kinds, repeat=count):
        encoded = with_sequence(OPEN + b"".join(parts))
        if is_in_order(parts):
            assert read(encoded) == EXPECTED, parts
        else:
            with pytest.raises(HeaderUnreadable):
                read(encoded)


@pytest.mark.parametrize("body", [ITEM, EMPTY_ITEM, ITEM_END, SEQUENCE_END])
def test_an_item_without_a_sequence_is_no_header(body: bytes) -> None:
    assert unreadable(with_sequence(body)) == "a stray item"


def test_an_item_whose_length_reads_like_a_vr_is_no_header_either() -> None:
    item = struct.pack("<HH2sH", 0xFFFE, 0xE000, b"CS", 0)
    assert unreadable(with_sequence(item)) == "a stray item"
    whole = data_set(without=SERIES, pixels=b"")
    assert unreadable(whole + item) == "a stray item"
