"""Messages as they are on the wire, judged by pynetdicom; and answers, however they are cut."""

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.dsutils import decode
from pynetdicom.pdu import P_DATA_TF

from bench.receiver.pdus import (
    Response,
    ResponseReader,
    UnexpectedAnswer,
    command_pdu,
    data_set_pdus,
    parse_response,
    rechunk,
    store_request,
)

SOP_CLASS = "1.2.840.10008.5.1.4.1.1.2"
RESPONSE = bytes.fromhex(
    "00000001 02000000 0180"  # (0000,0100) C-STORE-RSP
    "00002001 02000000 0700"  # (0000,0120) answers message 7
    "00000009 02000000 00A7"  # (0000,0900) A700H
)


def fragments(pdus: bytes) -> list[tuple[int, bytes]]:
    """Message control header and bytes of every PDV, as pynetdicom reads them."""
    found: list[bytes] = []
    while pdus:
        end = 6 + int.from_bytes(pdus[2:6], "big")
        pdu = P_DATA_TF()
        pdu.decode(pdus[:end])
        found += [item.presentation_data_value or b"" for item in pdu.presentation_data_value_items]
        pdus = pdus[end:]
    return [(value[0], value[1:]) for value in found]


def test_a_store_request_says_what_pynetdicom_reads_in_it() -> None:
    request = store_request(7, SOP_CLASS, "2.25.123")
    command = decode(BytesIO(request), is_implicit_vr=True, is_little_endian=True)
    assert command.CommandGroupLength == len(request) - 12
    assert (command.CommandField, command.MessageID) == (0x0001, 7)
    assert command.AffectedSOPClassUID == SOP_CLASS
    assert command.AffectedSOPInstanceUID == "2.25.123"
    assert command.CommandDataSetType != 0x0101


def test_a_command_is_one_last_command_fragment() -> None:
    assert fragments(command_pdu(1, b"command")) == [(0x03, b"command")]


@given(st.binary(min_size=1, max_size=500), st.integers(7, 64))
def test_a_data_set_arrives_whole_in_pdus_no_longer_than_allowed(
    data_set: bytes, max_pdu: int
) -> None:
    pdus = list(data_set_pdus(1, [data_set], len(data_set), max_pdu))
    assert all(len(pdu) <= 6 + max_pdu for pdu in pdus)
    found = fragments(b"".join(pdus))
    assert b"".join(fragment for _, fragment in found) == data_set
    assert [control for control, _ in found] == [0x00] * (len(found) - 1) + [0x02]


@given(st.lists(st.binary(max_size=50)), st.integers(1, 40))
def test_rechunking_changes_where_bytes_are_cut_and_nothing_else(
    chunks: list[bytes], size: int
) -> None:
    pieces = list(rechunk(chunks, size))
    assert b"".join(pieces) == b"".join(chunks)
    assert all(len(piece) == size for piece in pieces[:-1])
    assert all(0 < len(piece) <= size for piece in pieces)


@given(st.integers(1, 200))
def test_responses_are_read_however_they_are_cut(size: int) -> None:
    reader = ResponseReader()
    wire = command_pdu(1, RESPONSE) * 3
    found = [each for piece in rechunk([wire], size) for each in reader.feed(piece)]
    assert found == [Response(7, 0xA700)] * 3


def test_an_abort_is_no_response() -> None:
    with pytest.raises(UnexpectedAnswer, match="07H"):
        ResponseReader().feed(bytes.fromhex("07 00 00000004 00000000"))


def test_another_command_is_no_response() -> None:
    with pytest.raises(UnexpectedAnswer, match="8030H"):
        parse_response(RESPONSE.replace(b"\x01\x80", b"\x30\x80"))


@given(st.binary(max_size=300))
def test_any_bytes_are_responses_or_an_unexpected_answer(data: bytes) -> None:
    for wire in (data, command_pdu(1, data), b"\x04\x00" + len(data).to_bytes(4, "big") + data):
        try:
            found = ResponseReader().feed(wire)
        except UnexpectedAnswer:
            continue
        assert all(isinstance(each, Response) for each in found)
