import struct
import zlib
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

import contract.header
from contract.header import (
    MAX_ELEMENTS,
    MAX_NESTING,
    Defect,
    Header,
    HeaderIncomplete,
    HeaderReader,
    HeaderUnreadable,
)
from contract.inflated import INFLATED_PREFIX_BYTES
from tests.unit.contract.headers import (
    ELEMENT,
    EXPECTED,
    LONG,
    SHORT,
    deflate,
    read,
    refusal,
    sequence,
    unreadable,
    with_sequence,
)
from tests.unit.store_scp.builders import (
    CT_IMAGE,
    DEFLATED,
    EXPLICIT_BE,
    EXPLICIT_LE,
    IMPLICIT_LE,
    ITEM,
    ITEM_END,
    SEQUENCE_END,
    SOP_CLASS,
    STUDY,
    UNDEFINED,
    data_set,
    element,
)


def test_nesting_is_bounded() -> None:
    assert read(with_sequence(sequence(MAX_NESTING))) == EXPECTED
    assert refusal(with_sequence(sequence(MAX_NESTING + 1))) is Defect.HEADER_TOO_COMPLEX
    assert refusal(with_sequence(sequence(100_000))) is Defect.HEADER_TOO_COMPLEX


def test_a_sequence_without_items_is_a_level_too() -> None:
    empty = element((0x0008, 0x1140), b"SQ", SEQUENCE_END, length=UNDEFINED)
    assert read(with_sequence(sequence(MAX_NESTING - 1, empty))) == EXPECTED
    assert refusal(with_sequence(sequence(MAX_NESTING, empty))) is Defect.HEADER_TOO_COMPLEX


def test_the_number_of_elements_is_bounded() -> None:
    many = element((0x0009, 0x1000), b"LO", b"") * (MAX_ELEMENTS + 1)
    assert refusal(with_sequence(many)) is Defect.HEADER_TOO_COMPLEX


FEW = 100


@pytest.fixture
def few_elements(monkeypatch: pytest.MonkeyPatch) -> None:
    """To walk to the real bound takes up to a second each time."""
    monkeypatch.setattr(contract.header, "MAX_ELEMENTS", FEW)


BEFORE = element((0x0008, 0x0008), b"CS", b"")
# As many as the bound, up to Series Instance UID; the header has five of them itself.
FILL = FEW - 5
FILLERS = {
    "short": lambda number: SHORT * number,
    "long": lambda number: LONG * number,
    "short, then long": lambda number: SHORT * (number - 9) + LONG * 9,
    "long, then short": lambda number: LONG * 9 + SHORT * (number - 9),
    # A sequence and an item have an end each.
    "items": lambda number: element((0x0008, 0x1140), b"SQ", b"", length=UNDEFINED)
    + (ITEM + ITEM_END) * (number // 2 - 1) + SEQUENCE_END + SHORT * (number % 2),
}  # fmt: skip


@pytest.mark.usefixtures("few_elements")
@pytest.mark.parametrize("fill", FILLERS.values(), ids=FILLERS.keys())
def test_as_many_elements_are_read_as_are_allowed_and_no_more(fill: Callable[[int], bytes]) -> None:
    assert read(with_sequence(fill(FILL))) == EXPECTED
    assert refusal(with_sequence(fill(FILL + 1))) is Defect.HEADER_TOO_COMPLEX


@pytest.mark.usefixtures("few_elements")
def test_elements_before_and_behind_a_wanted_one_count_together() -> None:
    whole = data_set()
    at = whole.index(struct.pack("<HH", *STUDY))
    half = BEFORE * (FILL // 2)
    rest = SHORT * (FILL - FILL // 2)
    assert read(half + whole[:at] + rest + whole[at:]) == EXPECTED
    assert refusal(half + whole[:at] + rest + SHORT + whole[at:]) is Defect.HEADER_TOO_COMPLEX
    wanted = element(SOP_CLASS, b"UI", CT_IMAGE.encode() + b"\x00")
    assert refusal(wanted + SHORT * (FEW - 1)) is Defect.NO_SOP_INSTANCE_UID
    assert refusal(wanted + SHORT * FEW) is Defect.HEADER_TOO_COMPLEX


@pytest.mark.usefixtures("few_elements")
@pytest.mark.parametrize("encoded", [SHORT, LONG], ids=["short", "long"])
def test_nothing_is_looked_at_behind_as_many_elements_as_are_allowed(encoded: bytes) -> None:
    assert refusal(encoded * FEW) is Defect.NO_SOP_CLASS_UID
    for behind in (b"", b"\x09", SHORT * 9, element((0x0009, 0x1000), b"LO", b"", length=2)):
        assert refusal(encoded * (FEW + 1) + behind) is Defect.HEADER_TOO_COMPLEX


def in_steps(data: bytes, transfer_syntax: str, sizes: Sequence[int], most: int) -> Header | str:
    """What a reader says that gets the data set in pieces and does ``most`` elements at once."""
    reader, told = HeaderReader(transfer_syntax), ""
    for size in (*sizes, len(data)):
        try:
            while (header := reader.read(memoryview(bytes(data[:size])), most)) is None:
                pass
        except HeaderIncomplete as incomplete:
            told = str(incomplete)
        except HeaderUnreadable as error:
            return str(error)
        else:
            return header
    return told


@given(
    st.data(),
    st.sampled_from([IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE, DEFLATED]),
    st.integers(1, 900),
)
def test_a_header_read_in_steps_is_the_header_read_at_once(
    data: st.DataObject, transfer_syntax: str, most: int
) -> None:
    order = ">" if transfer_syntax == EXPLICIT_BE else "<"
    whole = bytearray(data_set(explicit=transfer_syntax != IMPLICIT_LE, order=order))
    if order == "<" and transfer_syntax != IMPLICIT_LE:
        whole = bytearray(with_sequence(sequence(3, ELEMENT)))
    for _ in range(data.draw(st.integers(0, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    encoded = deflate(bytes(whole)) if transfer_syntax == DEFLATED else bytes(whole)
    sizes = sorted(data.draw(st.lists(st.integers(0, len(encoded)), max_size=5)))
    expected: Header | str
    try:
        expected = contract.header.read_header(memoryview(encoded), transfer_syntax)
    except HeaderUnreadable as error:
        expected = str(error)
    assert in_steps(encoded, transfer_syntax, sizes, most) == expected


def test_no_call_walks_more_elements_than_it_was_asked_for() -> None:
    nested = element((0x0009, 0x1000), b"SQ", ITEM + SHORT * 5_000 + ITEM_END, length=UNDEFINED)
    many = with_sequence(SHORT * 5_000 + LONG * 5_000 + nested + SEQUENCE_END)
    reader, calls = HeaderReader(EXPLICIT_LE), 1
    while reader.read(memoryview(many), 1_000) is None:
        calls += 1
    assert calls == 16


def test_deflated_data_that_holds_nothing_is_given_up() -> None:
    # Stored blocks without a byte (RFC 1951 3.2.4), each of 5 bytes.
    nothing = memoryview(b"\x00\x00\x00\xff\xff" * 1_000_000)
    reader = HeaderReader(DEFLATED)
    for _ in range(5):
        assert reader.read(nothing, 2_000) is None
    with pytest.raises(HeaderUnreadable, match="longer than what it holds"):
        reader.read(nothing, 20_000)


def test_a_bomb_is_inflated_a_little_at_a_time() -> None:
    bomb = memoryview(deflate(element((0x0008, 0x0008), b"OB", bytes(20_000_000))))
    reader = HeaderReader(DEFLATED)
    for _ in range(10):
        assert reader.read(bomb, 2_000) is None


def test_only_a_prefix_of_deflated_data_is_inflated() -> None:
    bomb = deflate(data_set(pixels=bytes(20_000_000)))
    assert read(bomb, DEFLATED) == EXPECTED
    longer = element((0x0008, 0x0008), b"OB", bytes(20_000_000))
    assert unreadable(deflate(longer + data_set()), DEFLATED) == "it ends inside a value"


def test_as_much_of_deflated_data_is_inflated_as_is_said_however_badly_it_is_deflated() -> None:
    header = data_set(pixels=b"")
    header_ends = header.index(struct.pack("<HH", 0x7FE0, 0x0010))
    filler = INFLATED_PREFIX_BYTES - header_ends - 12
    stored = zlib.compressobj(0, wbits=-zlib.MAX_WBITS)  # it gets longer by it
    for size, expected in ((filler, True), (filler + 1, False)):
        one = stored.copy()
        encoded = with_sequence(element((0x0009, 0x1000), b"OB", bytes(size)))
        deflated = one.compress(encoded) + one.flush()
        assert len(deflated) > len(encoded)
        if expected:
            assert read(deflated, DEFLATED) == EXPECTED
        else:
            assert refusal(deflated, DEFLATED) is Defect.UNREADABLE_HEADER


def test_what_cannot_be_inflated_has_its_own_defect() -> None:
    assert refusal(b"\xff" * 40, DEFLATED) is Defect.CANNOT_INFLATE
