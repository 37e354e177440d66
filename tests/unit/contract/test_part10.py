import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.header import Defect, Header, HeaderUnreadable
from contract.part10 import read_file
from tests.unit.contract.headers import EXPECTED
from tests.unit.store_scp.builders import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE, data_set, element

PREFIX = bytes(128) + b"DICM"


def meta(transfer_syntax: str | None = EXPLICIT_LE, *more: bytes) -> bytes:
    """File meta with elements of every kind of length before the transfer syntax."""
    group = [
        element((0x0002, 0x0001), b"OB", b"\x00\x01"),
        element((0x0002, 0x0003), b"UI", b"1.2.3.4\x00"),
    ]
    if transfer_syntax is not None:
        uid = transfer_syntax.encode()
        group.append(element((0x0002, 0x0010), b"UI", uid + b"\x00" * (len(uid) % 2)))
    return PREFIX + b"".join([*group, *more])


def read(data: bytes) -> tuple[Header, str]:
    return read_file(memoryview(data))


def defect(data: bytes) -> Defect:
    with pytest.raises(HeaderUnreadable) as caught:
        read(data)
    return caught.value.defect


@pytest.mark.parametrize(
    ("transfer_syntax", "encoded"),
    [
        (EXPLICIT_LE, data_set()),
        (IMPLICIT_LE, data_set(explicit=False)),
        (EXPLICIT_BE, data_set(order=">")),
    ],
)
def test_a_file_tells_its_header_and_its_transfer_syntax(
    transfer_syntax: str, encoded: bytes
) -> None:
    assert read(meta(transfer_syntax) + encoded) == (EXPECTED, transfer_syntax)


def test_private_information_behind_the_transfer_syntax_is_stepped_over() -> None:
    private = element((0x0002, 0x0102), b"OB", b"x" * 70_000)
    assert read(meta(EXPLICIT_LE, private) + data_set()) == (EXPECTED, EXPLICIT_LE)


@pytest.mark.parametrize("data", [b"", b"\x89PNG", bytes(131), bytes(128) + b"DIC", data_set()])
def test_what_has_no_dicm_is_no_part10_file(data: bytes) -> None:
    assert defect(data) is Defect.NOT_PART10


@pytest.mark.parametrize("transfer_syntax", [None, "", "DOE^JANE", "1" * 66])
def test_a_missing_or_hostile_transfer_syntax_has_its_own_name(transfer_syntax: str | None) -> None:
    assert defect(meta(transfer_syntax) + data_set()) is Defect.NO_TRANSFER_SYNTAX


def test_file_meta_that_never_ends_is_refused() -> None:
    many = element((0x0002, 0x0100), b"UI", b"") * 1_000
    assert defect(meta(None, many) + data_set()) is Defect.NO_TRANSFER_SYNTAX


def test_file_meta_has_so_many_elements_and_no_more() -> None:
    transfer_syntax = meta()[len(meta(None)) :]
    private = element((0x0002, 0x0102), b"OB", b"")
    at_most = meta(None, private * 97, transfer_syntax)  # two are there already
    assert read(at_most + data_set()) == (EXPECTED, EXPLICIT_LE)
    one_more = meta(None, private * 98, transfer_syntax)
    assert defect(one_more + data_set()) is Defect.NO_TRANSFER_SYNTAX


def test_file_meta_ends_before_a_data_set_of_one_element_and_not_inside_one() -> None:
    only = element((0x7FE0, 0x0010), b"OW", b"")
    assert defect(meta() + only) is Defect.NO_SOP_CLASS_UID
    for size in range(len(only)):
        assert defect(meta() + only[:size]) is Defect.UNREADABLE_HEADER


def test_a_beginning_that_is_too_short_is_refused_and_a_longer_one_read() -> None:
    whole = meta() + data_set(pixels=b"")
    header_ends = whole.index(struct.pack("<HH", 0x7FE0, 0x0010))
    for size in range(len(PREFIX), header_ends):
        assert defect(whole[:size]) is not Defect.NOT_PART10
    assert read(whole[:header_ends]) == (EXPECTED, EXPLICIT_LE)


def test_a_refusal_repeats_nothing_of_the_file() -> None:
    with pytest.raises(HeaderUnreadable) as caught:
        read(meta() + data_set(replaced={(0x0020, 0x000D): b"DOE^JANE"}))
    assert caught.value.defect is Defect.NO_STUDY_INSTANCE_UID
    assert "DOE" not in str(caught.value)


@given(st.binary(max_size=300))
def test_any_bytes_give_a_header_or_a_defect(garbage: bytes) -> None:
    for data in (garbage, PREFIX + garbage, meta() + garbage):
        with suppress(HeaderUnreadable):
            read(data)


@given(st.data())
def test_a_damaged_file_gives_a_header_or_a_defect(data: st.DataObject) -> None:
    whole = bytearray(meta() + data_set())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with suppress(HeaderUnreadable):
        read(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
