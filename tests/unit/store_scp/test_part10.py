import contextlib
import hashlib
import io
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path

import data_store  # type: ignore[import-untyped]
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.filereader import dcmread, read_preamble
from pydicom.uid import UID
from store_scp.dimse.status import Status
from store_scp.errors import StoreRefused
from store_scp.part10 import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    file_meta,
)

import contract.header
from contract.header import (
    MAX_ELEMENTS,
    MAX_NESTING,
    Header,
    HeaderIncomplete,
    HeaderReader,
    HeaderUnreadable,
)
from contract.inflated import INFLATED_PREFIX_BYTES
from tests.unit.store_scp.builders import (
    CT_IMAGE,
    DEFLATED,
    EXPLICIT_BE,
    EXPLICIT_LE,
    IMPLICIT_LE,
    ITEM,
    ITEM_END,
    SEQUENCE_END,
    SERIES,
    SOP_CLASS,
    SOP_INSTANCE,
    STUDY,
    STUDY_DATE,
    UNDEFINED,
    data_set,
    element,
    read_header,
)

EXPECTED = Header("1.2.840.10008.5.1.4.1.1.2", "1.2.3.4", "1.2.3", "1.2.3.3", "20240131")
JPEG = "1.2.840.10008.1.2.4.50"
GE_PRIVATE = "1.2.840.113619.5.2"


def deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


def read(data: bytes, transfer_syntax: str = EXPLICIT_LE) -> Header:
    return read_header(memoryview(data), transfer_syntax)


def refusal(data: bytes, transfer_syntax: str = EXPLICIT_LE) -> Status:
    with pytest.raises(StoreRefused) as caught:
        read(data, transfer_syntax)
    return caught.value.status


def unreadable(data: bytes, transfer_syntax: str = EXPLICIT_LE) -> str:
    """Why it cannot be read, in words."""
    with pytest.raises(StoreRefused) as caught:
        read(data, transfer_syntax)
    assert caught.value.status is Status.UNREADABLE_HEADER
    return caught.value.detail


def assert_header_or_refusal(data: bytes, transfer_syntax: str) -> None:
    """Whatever else is raised fails the test."""
    with contextlib.suppress(StoreRefused):
        assert read(data, transfer_syntax).sop_instance_uid


@pytest.mark.parametrize(
    ("encoded", "transfer_syntax"),
    [
        (data_set(), EXPLICIT_LE),
        (data_set(), JPEG),
        (data_set(explicit=False), IMPLICIT_LE),
        (data_set(order=">"), EXPLICIT_BE),
        (deflate(data_set()), DEFLATED),
        (data_set(explicit=False), GE_PRIVATE),
        (data_set(), "1.3.12.2.99.1"),
        # What some senders do: implicit data under an explicit transfer syntax.
        (data_set(explicit=False), JPEG),
    ],
)
def test_the_header_is_read_in_every_encoding(encoded: bytes, transfer_syntax: str) -> None:
    assert read(encoded, transfer_syntax) == EXPECTED


@pytest.mark.parametrize(
    ("tag", "status"),
    [
        (SOP_CLASS, Status.NO_SOP_CLASS_UID),
        (SOP_INSTANCE, Status.NO_SOP_INSTANCE_UID),
        (STUDY, Status.NO_STUDY_INSTANCE_UID),
        (SERIES, Status.NO_SERIES_INSTANCE_UID),
    ],
)
@pytest.mark.parametrize(
    "value", [None, b"", b"../..\x00", b"1.2\n", b"1" * 66, b"1.2\\1.3 ", b";$(x)", b"\xff\xfe"]
)
def test_a_missing_or_hostile_uid_has_its_own_status(
    tag: tuple[int, int], status: Status, value: bytes | None
) -> None:
    encoded = data_set(without=tag) if value is None else data_set(replaced={tag: value})
    assert refusal(encoded) is status


def test_a_value_that_hides_something_behind_its_padding_is_unreadable() -> None:
    padded = b"1.2.3" + b" " * 150 + b"x"
    assert refusal(data_set(replaced={STUDY: padded})) is Status.UNREADABLE_HEADER


@pytest.mark.parametrize("date", [b"", b"1997.07.01", b"2024013 ", b"DOE^JANE"])
def test_a_study_date_is_kept_only_if_it_is_one(date: bytes) -> None:
    assert read(data_set(replaced={STUDY_DATE: date})).study_date is None


def test_no_study_date_is_no_error() -> None:
    assert read(data_set(without=STUDY_DATE)).study_date is None


def test_every_truncation_before_the_series_uid_is_refused_and_none_behind_it() -> None:
    whole = data_set()
    header_ends = whole.index(struct.pack("<HH", 0x7FE0, 0x0010))
    for size in range(header_ends):
        refusal(whole[:size])
    for size in range(header_ends, len(whole)):
        assert read(whole[:size]) == EXPECTED


def test_a_pixel_data_length_beyond_the_end_is_left_to_the_import() -> None:
    huge = element((0x7FE0, 0x0010), b"OW", b"", length=0xFFFFFFF0)
    assert read(data_set(pixels=b"") + huge) == EXPECTED


def sequence(depth: int, inner: bytes = b"") -> bytes:
    opening = element((0x0008, 0x1140), b"SQ", b"", length=UNDEFINED) + ITEM
    return opening * depth + inner + (ITEM_END + SEQUENCE_END) * depth


def with_sequence(encoded: bytes) -> bytes:
    whole = data_set()
    at = whole.index(struct.pack("<HH", *STUDY))
    return whole[:at] + encoded + whole[at:]


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


def test_nesting_is_bounded() -> None:
    assert read(with_sequence(sequence(MAX_NESTING))) == EXPECTED
    assert refusal(with_sequence(sequence(MAX_NESTING + 1))) is Status.HEADER_TOO_COMPLEX
    assert refusal(with_sequence(sequence(100_000))) is Status.HEADER_TOO_COMPLEX


def test_a_sequence_without_items_is_a_level_too() -> None:
    empty = element((0x0008, 0x1140), b"SQ", SEQUENCE_END, length=UNDEFINED)
    assert read(with_sequence(sequence(MAX_NESTING - 1, empty))) == EXPECTED
    assert refusal(with_sequence(sequence(MAX_NESTING, empty))) is Status.HEADER_TOO_COMPLEX


def test_the_number_of_elements_is_bounded() -> None:
    many = element((0x0009, 0x1000), b"LO", b"") * (MAX_ELEMENTS + 1)
    assert refusal(with_sequence(many)) is Status.HEADER_TOO_COMPLEX


FEW = 100


@pytest.fixture
def few_elements(monkeypatch: pytest.MonkeyPatch) -> None:
    """To walk to the real bound takes up to a second each time."""
    monkeypatch.setattr(contract.header, "MAX_ELEMENTS", FEW)


BEFORE = element((0x0008, 0x0008), b"CS", b"")
SHORT = element((0x0009, 0x1000), b"LO", b"")
LONG = element((0x0009, 0x1000), b"OB", b"")
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
    assert refusal(with_sequence(fill(FILL + 1))) is Status.HEADER_TOO_COMPLEX


@pytest.mark.usefixtures("few_elements")
def test_elements_before_and_behind_a_wanted_one_count_together() -> None:
    whole = data_set()
    at = whole.index(struct.pack("<HH", *STUDY))
    half = BEFORE * (FILL // 2)
    rest = SHORT * (FILL - FILL // 2)
    assert read(half + whole[:at] + rest + whole[at:]) == EXPECTED
    assert refusal(half + whole[:at] + rest + SHORT + whole[at:]) is Status.HEADER_TOO_COMPLEX
    wanted = element(SOP_CLASS, b"UI", CT_IMAGE.encode() + b"\x00")
    assert refusal(wanted + SHORT * (FEW - 1)) is Status.NO_SOP_INSTANCE_UID
    assert refusal(wanted + SHORT * FEW) is Status.HEADER_TOO_COMPLEX


@pytest.mark.usefixtures("few_elements")
@pytest.mark.parametrize("encoded", [SHORT, LONG], ids=["short", "long"])
def test_nothing_is_looked_at_behind_as_many_elements_as_are_allowed(encoded: bytes) -> None:
    assert refusal(encoded * FEW) is Status.NO_SOP_CLASS_UID
    for behind in (b"", b"\x09", SHORT * 9, element((0x0009, 0x1000), b"LO", b"", length=2)):
        assert refusal(encoded * (FEW + 1) + behind) is Status.HEADER_TOO_COMPLEX


@pytest.mark.parametrize("vr", [b"LO", b"OB"], ids=["short", "long"])
def test_an_element_may_end_where_the_data_set_does_and_not_behind_it(vr: bytes) -> None:
    for value in (b"", b"xy"):
        last = element((0x0009, 0x1000), vr, value)
        assert refusal(last) is Status.NO_SOP_CLASS_UID
        longer = element((0x0009, 0x1000), vr, value, length=len(value) + 1)
        assert refusal(longer) is Status.UNREADABLE_HEADER


def test_a_value_may_have_so_much_padding_and_no_more() -> None:
    assert read(data_set(replaced={STUDY: b"1.2.3".ljust(128)})) == EXPECTED
    assert refusal(data_set(replaced={STUDY: b"1.2.3".ljust(129)})) is Status.UNREADABLE_HEADER


@pytest.mark.parametrize("explicit", [True, False], ids=["explicit", "implicit"])
@pytest.mark.parametrize("vr", [b"US", b"OB"])
def test_what_stands_behind_the_place_of_a_missing_uid_is_out_of_order(
    vr: bytes, explicit: bool
) -> None:
    without = data_set(without=SERIES, explicit=explicit, pixels=b"")
    header_ends = without.index(struct.pack("<HH", 0x7FE0, 0x0010))
    beyond = element((0x0028, 0x0010), vr, b"\x00\x02", explicit=explicit)
    series = element(SERIES, b"UI", b"1.2.3.3\x00", explicit=explicit)
    assert read(without[:header_ends] + series + beyond) == EXPECTED
    assert refusal(without[:header_ends] + beyond) is Status.NO_SERIES_INSTANCE_UID
    # Nor is it anybody's business whether what is there is whole.
    assert refusal(without[:header_ends] + beyond[:-1]) is Status.NO_SERIES_INSTANCE_UID
    assert unreadable(without[:header_ends] + beyond + series) == "tags out of order"


@pytest.mark.parametrize("explicit", [True, False], ids=["explicit", "implicit"])
def test_what_follows_a_sequence_is_read_as_what_was_before_it(explicit: bool) -> None:
    inner = element((0x0009, 0x1000), b"LO", b"12345678", explicit=explicit)
    opening = element((0x0009, 0x1000), b"SQ", b"", explicit=explicit, length=UNDEFINED) + ITEM
    closing = inner + ITEM_END + SEQUENCE_END
    whole = data_set(explicit=explicit)
    at = whole.index(struct.pack("<HH", *STUDY))
    nested = opening + inner + opening + inner + closing + closing
    assert read(whole[:at] + inner + nested + inner + whole[at:]) == EXPECTED


EMPTY_ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
ELEMENT = element((0x0008, 0x1140), b"LO", b"12345678")
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
    assert refusal(with_sequence(sequence(levels, encoded))) is Status.UNREADABLE_HEADER


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
            with pytest.raises(StoreRefused):
                read(encoded)


@pytest.mark.parametrize("body", [ITEM, EMPTY_ITEM, ITEM_END, SEQUENCE_END])
def test_an_item_without_a_sequence_is_no_header(body: bytes) -> None:
    assert unreadable(with_sequence(body)) == "a stray item"


def test_an_item_whose_length_reads_like_a_vr_is_no_header_either() -> None:
    item = struct.pack("<HH2sH", 0xFFFE, 0xE000, b"CS", 0)
    assert unreadable(with_sequence(item)) == "a stray item"
    whole = data_set(without=SERIES, pixels=b"")
    assert unreadable(whole + item) == "a stray item"


@pytest.mark.parametrize("explicit", [True, False], ids=["explicit", "implicit"])
@pytest.mark.parametrize("group", [0x0000, 0x0002, 0x0004, 0x0006, 0x0001, 0x0007])
def test_a_group_that_no_data_set_has_is_unreadable(group: int, explicit: bool) -> None:
    stray = element((group, 0x0010), b"UI", EXPLICIT_LE.encode() + b"\x00", explicit=explicit)
    whole = data_set(explicit=explicit)
    assert unreadable(stray + whole) == f"a data set has no group {group:04X}"
    at = whole.index(struct.pack("<HH", *STUDY))
    assert unreadable(whole[:at] + stray + whole[at:]) == f"a data set has no group {group:04X}"


def test_a_whole_file_in_place_of_a_data_set_is_unreadable() -> None:
    file = file_meta(CT_IMAGE, "1.2.3.4", EXPLICIT_LE) + data_set()
    assert unreadable(file) == "a data set has no group 0000"


@pytest.mark.parametrize("vr", [b"LO", b"OB"], ids=["short", "long"])
@pytest.mark.parametrize("behind", [SOP_INSTANCE, STUDY_DATE, STUDY, SERIES])
def test_tags_out_of_order_are_told_wherever_they_stand(behind: tuple[int, int], vr: bytes) -> None:
    whole = data_set()
    at = whole.index(struct.pack("<HH", *behind))
    higher = element((0x0029, 0x1000), vr, b"12")
    assert unreadable(whole[:at] + higher + whole[at:]) == "tags out of order"
    lower = element((0x0008, 0x0008), vr, b"12")
    assert unreadable(whole[:at] + lower + whole[at:]) == "tags out of order"


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


def test_an_element_given_twice_is_unreadable() -> None:
    second = element(SOP_INSTANCE, b"UI", b"6.6.6\x00")
    assert refusal(with_sequence(second)) is Status.UNREADABLE_HEADER


def test_only_a_prefix_of_deflated_data_is_inflated() -> None:
    bomb = deflate(data_set(pixels=bytes(20_000_000)))
    assert read(bomb, DEFLATED) == EXPECTED
    assert refusal(deflate(bytes(20_000_000)), DEFLATED) is not Status.SUCCESS


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
            assert refusal(deflated, DEFLATED) is Status.UNREADABLE_HEADER


def test_what_cannot_be_inflated_has_its_own_status() -> None:
    assert refusal(b"\xff" * 40, DEFLATED) is Status.CANNOT_INFLATE


@given(st.binary(max_size=300), st.sampled_from([IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE, DEFLATED]))
def test_any_bytes_give_a_header_or_a_refusal(garbage: bytes, transfer_syntax: str) -> None:
    assert_header_or_refusal(garbage, transfer_syntax)


@given(st.data())
def test_a_damaged_data_set_gives_a_header_or_a_refusal(data: st.DataObject) -> None:
    whole = bytearray(with_sequence(sequence(3)))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    assert_header_or_refusal(bytes(whole), EXPLICIT_LE)


def test_the_file_meta_is_what_pydicom_reads_back() -> None:
    meta = dcmread(io.BytesIO(file_meta("1.2.3", "1.2.33", EXPLICIT_LE) + data_set())).file_meta
    assert meta.FileMetaInformationVersion == b"\x00\x01"
    assert meta.MediaStorageSOPClassUID == "1.2.3"
    assert meta.MediaStorageSOPInstanceUID == "1.2.33"
    assert meta.TransferSyntaxUID == EXPLICIT_LE
    assert meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    assert meta.ImplementationVersionName == IMPLEMENTATION_VERSION_NAME
    assert "SourceApplicationEntityTitle" not in meta
    assert UID(IMPLEMENTATION_CLASS_UID).is_valid


def test_equal_instances_give_equal_files_whatever_the_release() -> None:
    """The bytes are fixed: a change here gives every stored instance a second identity."""
    meta = file_meta("1.2.840.10008.5.1.4.1.1.2", "1.2.3.4", EXPLICIT_LE)
    digest = "aaff287b95d03a4bde0bf83c8e15da4b22bd5c326b9aa7eafa077db4f61e0ed2"
    assert hashlib.sha256(meta).hexdigest() == digest


def part10_files() -> Iterator[Path]:
    roots = (Path(pydicom.__file__).parent / "data", Path(str(data_store.__file__)).parent)
    for root in roots:
        for path in sorted(root.rglob("*")):
            if path.is_file() and path.read_bytes()[128:132] == b"DICM":
                yield path


def split(path: Path) -> tuple[str, bytes] | None:
    """A file's transfer syntax and data set; None where it names none."""
    raw = path.read_bytes()
    stream = io.BytesIO(raw)
    read_preamble(stream, force=False)
    meta = pydicom.filereader._read_file_meta_info(stream)
    return (
        (str(meta.TransferSyntaxUID), raw[stream.tell() :]) if "TransferSyntaxUID" in meta else None
    )


def test_pydicom_reads_the_same_uids_in_every_file_it_ships() -> None:
    names = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
    compared = 0
    for path in part10_files():
        parts = split(path)
        if parts is None:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # many of these files are there to be warned about
            theirs = dcmread(path, stop_before_pixels=True)
            expected = [str(theirs.get(name, "")) for name in names]
        try:
            ours = read(parts[1], parts[0])
        except StoreRefused:
            assert not all(uid.replace(".", "").isdigit() for uid in expected), path.name
            continue
        found = [ours.sop_class_uid, ours.sop_instance_uid]
        assert [*found, ours.study_instance_uid, ours.series_instance_uid] == expected, path.name
        compared += 1
    assert compared > 200
