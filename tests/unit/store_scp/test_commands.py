import contextlib
import struct
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.dimse_messages import C_ECHO_RQ, C_STORE_RQ
from pynetdicom.dimse_primitives import C_ECHO, C_STORE
from pynetdicom.dsutils import decode, encode
from store_scp.dimse.commands import (
    MAX_COMMAND_ELEMENTS,
    Command,
    CommandField,
    CommandInvalid,
    decode_command,
    encode_response,
)
from store_scp.dimse.status import Status

CT = "1.2.840.10008.5.1.4.1.1.2"
STORE = Command(CommandField.C_STORE_RQ, 7, CT, "1.2.3", True)


def elements(*pairs: tuple[int, bytes], group: int = 0) -> bytes:
    return b"".join(struct.pack("<HHI", group, tag, len(value)) + value for tag, value in pairs)


def pynetdicoms_store() -> bytes:
    primitive = C_STORE()
    primitive.MessageID, primitive.Priority = 7, 2
    primitive.AffectedSOPClassUID, primitive.AffectedSOPInstanceUID = CT, "1.2.3"
    primitive.DataSet = BytesIO(b"data")
    message = C_STORE_RQ()
    message.primitive_to_message(primitive)
    encoded = encode(message.command_set, True, True)
    assert encoded is not None
    return encoded


def test_a_command_set_may_have_so_many_elements_and_no_more() -> None:
    others = [(0x5000 + number, b"") for number in range(MAX_COMMAND_ELEMENTS - 3)]
    echo = [(0x0100, b"\x30\0"), (0x0110, b"\1\0"), (0x0800, b"\1\1")]
    assert decode_command(elements(*echo, *others)).message_id == 1
    with pytest.raises(CommandInvalid, match="too many elements"):
        decode_command(elements(*echo, *others, (0x6000, b"")))


def test_pynetdicoms_requests_are_understood() -> None:
    assert decode_command(pynetdicoms_store()) == STORE
    primitive = C_ECHO()
    primitive.MessageID = 9
    message = C_ECHO_RQ()
    message.primitive_to_message(primitive)
    echo = decode_command(encode(message.command_set, True, True) or b"")
    assert (echo.field, echo.message_id, echo.has_data_set) == (CommandField.C_ECHO_RQ, 9, False)


@pytest.mark.parametrize("status", Status)
def test_pynetdicom_understands_our_response(status: Status) -> None:
    encoded = encode_response(STORE, status, CT, "1.2.3")
    found = decode(BytesIO(encoded), True, True)
    assert found.CommandGroupLength == len(encoded) - 12
    assert (found.CommandField, found.MessageIDBeingRespondedTo) == (0x8001, 7)
    assert (found.CommandDataSetType, found.Status) == (0x0101, status.code)
    assert (found.AffectedSOPClassUID, found.AffectedSOPInstanceUID) == (CT, "1.2.3")
    assert ("ErrorComment" in found) == (status is not Status.SUCCESS)


def test_a_uid_that_is_none_is_not_sent_back() -> None:
    found = decode(BytesIO(encode_response(STORE, Status.SUCCESS, "", "")), True, True)
    assert "AffectedSOPClassUID" not in found
    assert "AffectedSOPInstanceUID" not in found


FIELD, MESSAGE_ID, TYPE = (0x0100, b"\x01\0"), (0x0110, b"\x07\0"), (0x0800, b"\0\0")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        elements(FIELD, MESSAGE_ID),
        elements(FIELD, TYPE),
        elements(MESSAGE_ID, TYPE),
        elements((0x0100, b"\x20\0"), MESSAGE_ID, TYPE),
        elements((0x0100, b"\x01\x80"), MESSAGE_ID, TYPE),
        elements(FIELD, (0x0110, b"\x07"), TYPE),
        elements(FIELD, FIELD, MESSAGE_ID, TYPE),
        elements(FIELD, MESSAGE_ID, TYPE, group=8),
        elements(FIELD, MESSAGE_ID, TYPE) + b"\0\0\0",
        elements(FIELD, MESSAGE_ID, TYPE)[:-1],
    ],
)
def test_what_is_no_command_of_ours_is_refused(data: bytes) -> None:
    with pytest.raises(CommandInvalid):
        decode_command(data)


@given(st.binary(max_size=200) | st.just(pynetdicoms_store()), st.data())
def test_any_bytes_are_a_command_or_refused(data: bytes, draw: st.DataObject) -> None:
    changed = bytearray(data)
    if changed:
        changed[draw.draw(st.integers(0, len(changed) - 1))] = draw.draw(st.integers(0, 255))
    with contextlib.suppress(CommandInvalid):
        assert 0 <= decode_command(bytes(changed)).message_id < 2**16
