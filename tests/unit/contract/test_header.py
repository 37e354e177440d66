import contextlib
import io
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path

import data_store  # type: ignore[import-untyped]
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.filereader import dcmread, read_preamble
from store_scp.part10 import file_meta

from contract.header import Defect, HeaderUnreadable
from tests.unit.contract.headers import (
    EXPECTED,
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
    SERIES,
    SOP_CLASS,
    SOP_INSTANCE,
    STUDY,
    STUDY_DATE,
    data_set,
    element,
)

JPEG = "1.2.840.10008.1.2.4.50"
GE_PRIVATE = "1.2.840.113619.5.2"


def assert_header_or_refusal(data: bytes, transfer_syntax: str) -> None:
    """Whatever else is raised fails the test."""
    with contextlib.suppress(HeaderUnreadable):
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
    ("tag", "expected"),
    [
        (SOP_CLASS, Defect.NO_SOP_CLASS_UID),
        (SOP_INSTANCE, Defect.NO_SOP_INSTANCE_UID),
        (STUDY, Defect.NO_STUDY_INSTANCE_UID),
        (SERIES, Defect.NO_SERIES_INSTANCE_UID),
    ],
)
@pytest.mark.parametrize(
    "value", [None, b"", b"../..\x00", b"1.2\n", b"1" * 66, b"1.2\\1.3 ", b";$(x)", b"\xff\xfe"]
)
def test_a_missing_or_hostile_uid_has_its_own_defect(
    tag: tuple[int, int], expected: Defect, value: bytes | None
) -> None:
    encoded = data_set(without=tag) if value is None else data_set(replaced={tag: value})
    assert refusal(encoded) is expected


def test_a_missing_and_an_empty_uid_are_told_apart() -> None:
    with pytest.raises(HeaderUnreadable) as missing:
        read(data_set(without=STUDY))
    with pytest.raises(HeaderUnreadable) as empty:
        read(data_set(replaced={STUDY: b""}))
    told = (missing.value.detail, empty.value.detail)
    assert told == ("the element is missing", "a UID may not be empty")


def test_a_value_that_hides_something_behind_its_padding_is_unreadable() -> None:
    padded = b"1.2.3" + b" " * 150 + b"x"
    assert refusal(data_set(replaced={STUDY: padded})) is Defect.UNREADABLE_HEADER


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


@pytest.mark.parametrize("vr", [b"LO", b"OB"], ids=["short", "long"])
def test_an_element_may_end_where_the_data_set_does_and_not_behind_it(vr: bytes) -> None:
    for value in (b"", b"xy"):
        last = element((0x0009, 0x1000), vr, value)
        assert refusal(last) is Defect.NO_SOP_CLASS_UID
        longer = element((0x0009, 0x1000), vr, value, length=len(value) + 1)
        assert refusal(longer) is Defect.UNREADABLE_HEADER


def test_a_value_may_have_so_much_padding_and_no_more() -> None:
    assert read(data_set(replaced={STUDY: b"1.2.3".ljust(128)})) == EXPECTED
    assert refusal(data_set(replaced={STUDY: b"1.2.3".ljust(129)})) is Defect.UNREADABLE_HEADER


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
    assert refusal(without[:header_ends] + beyond) is Defect.NO_SERIES_INSTANCE_UID
    # Nor is it anybody's business whether what is there is whole.
    assert refusal(without[:header_ends] + beyond[:-1]) is Defect.NO_SERIES_INSTANCE_UID
    assert unreadable(without[:header_ends] + beyond + series) == "tags out of order"


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


def test_an_element_given_twice_is_unreadable() -> None:
    second = element(SOP_INSTANCE, b"UI", b"6.6.6\x00")
    assert refusal(with_sequence(second)) is Defect.UNREADABLE_HEADER


@given(st.binary(max_size=300), st.sampled_from([IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE, DEFLATED]))
def test_any_bytes_give_a_header_or_a_refusal(garbage: bytes, transfer_syntax: str) -> None:
    assert_header_or_refusal(garbage, transfer_syntax)


@given(st.data())
def test_a_damaged_data_set_gives_a_header_or_a_refusal(data: st.DataObject) -> None:
    whole = bytearray(with_sequence(sequence(3)))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    assert_header_or_refusal(bytes(whole), EXPLICIT_LE)


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
        except HeaderUnreadable:
            assert not all(uid.replace(".", "").isdigit() for uid in expected), path.name
            continue
        found = [ours.sop_class_uid, ours.sop_instance_uid]
        assert [*found, ours.study_instance_uid, ours.series_instance_uid] == expected, path.name
        compared += 1
    assert compared > 200
