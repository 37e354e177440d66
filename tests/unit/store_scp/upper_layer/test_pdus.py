"""A-ASSOCIATE-RQ in, AC, RJ, RELEASE-RP and ABORT out; pynetdicom is the oracle for both."""

import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom import build_context
from pynetdicom.pdu import (
    A_ABORT_RQ,
    A_ASSOCIATE_AC,
    A_ASSOCIATE_RJ,
    A_ASSOCIATE_RQ,
    A_RELEASE_RP,
    P_DATA_TF,
)
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    AsynchronousOperationsWindowNegotiation,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)
from store_scp.upper_layer.pdus import (
    MAX_CONTEXTS,
    MAX_TRANSFER_SYNTAXES,
    MAX_USER_ITEMS,
    AbortReason,
    AbortSource,
    AnsweredContext,
    AssociateRequest,
    InvalidPdu,
    decode_associate_request,
    encode_abort,
    encode_associate_accept,
    encode_associate_reject,
    encode_command,
    encode_release_response,
)

from tests.unit.store_scp.upper_layer.peer_bytes import context, item, request

CT = "1.2.840.10008.5.1.4.1.1.2"
SYNTAXES = ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"]


def decode(pdu: bytes) -> AssociateRequest:
    return decode_associate_request(pdu[6:])


def pynetdicoms(operations: tuple[int, int] | None = None) -> bytes:
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = "CT1", "STORESCP"
    proposed = build_context(CT, SYNTAXES)
    proposed.context_id = 5
    primitive.presentation_context_definition_list = [proposed]
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = 32_768
    implementation.implementation_class_uid = "1.2.3.4"
    primitive.user_information = [length, implementation]
    if operations:
        window = AsynchronousOperationsWindowNegotiation()
        window.maximum_number_operations_invoked, window.maximum_number_operations_performed = (
            operations
        )
        primitive.user_information.append(window)
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive)
    return pdu.encode()


@pytest.mark.parametrize("operations", [None, (8, 1), (0, 0)])
def test_what_pynetdicom_asks_is_understood(operations: tuple[int, int] | None) -> None:
    asked = decode(pynetdicoms(operations))
    assert asked.protocol_version == 1
    assert (asked.calling_ae_title.strip(), asked.called_ae_title.strip()) == ("CT1", "STORESCP")
    assert asked.application_context == "1.2.840.10008.3.1.1.1"
    (only,) = asked.contexts
    assert (only.context_id, only.abstract_syntax) == (5, CT)
    assert list(only.transfer_syntaxes) == SYNTAXES
    assert (asked.max_length, asked.operations) == (32_768, operations)


def test_pynetdicom_understands_our_acceptance() -> None:
    asked = decode(request([context(1), context(3)]))
    answers = [AnsweredContext(1, 0, SYNTAXES[0]), AnsweredContext(3, 3, None)]
    encoded = encode_associate_accept(asked, answers, 131_072, (4, 1), ("1.2.3", "OURS"))
    accepted = A_ASSOCIATE_AC()
    accepted.decode(encoded)
    primitive = accepted.to_primitive()
    assert primitive.maximum_length_received == 131_072
    results = [
        (each.context_id, each.result)
        for each in primitive.presentation_context_definition_results_list
    ]
    assert results == [(1, 0), (3, 3)]
    windows = [
        each.maximum_number_operations_invoked
        for each in primitive.user_information
        if isinstance(each, AsynchronousOperationsWindowNegotiation)
    ]
    assert windows == [4]
    assert encoded[10:74] == asked.echoed  # both titles and the reserved bytes, as they came


def test_pynetdicom_understands_our_other_pdus() -> None:
    rejected, aborted, released = A_ASSOCIATE_RJ(), A_ABORT_RQ(), A_RELEASE_RP()
    rejected.decode(encode_associate_reject(2, 3, 1))
    assert (rejected.result, rejected.source, rejected.reason_diagnostic) == (2, 3, 1)
    aborted.decode(encode_abort(AbortSource.SERVICE_PROVIDER, AbortReason.UNEXPECTED_PDU))
    assert (aborted.source, aborted.reason_diagnostic) == (2, 2)
    released.decode(encode_release_response())


@pytest.mark.parametrize("max_length", [0, 7, 30, 100, 10_000])
def test_a_command_is_cut_to_what_the_peer_takes(max_length: int) -> None:
    command = bytes(range(200))
    stream, found = encode_command(3, command, max_length), b""
    while stream:
        (length,) = struct.unpack_from(">I", stream, 2)
        assert not max_length or length <= max_length
        pdu = P_DATA_TF()
        pdu.decode(stream[: 6 + length])
        (value,) = pdu.presentation_data_value_items
        assert value.context_id == 3
        stream, data = stream[6 + length :], value.data or b""
        found += data[1:]
        assert (data[0] == 3) == (not stream)
    assert found == command


USER = item(0x51, struct.pack(">I", 16_384))
INVALID = {
    "no context": request([]),
    "even context id": request([context(2)]),
    "a context twice": request([context(1), context(1)]),
    "short context": request([item(0x20, b"\x01")]),
    "item too long": request()[:-1],
    "unknown item too long": request() + b"\x99\0\0\x0a\0\0",
    "item header cut off": request() + b"\x50\x00",
    "max length of three bytes": request(user=item(0x51, b"\0\0\1")),
    "window of three bytes": request(user=USER + item(0x53, b"\0\0\1")),
    "max length without room": request(user=item(0x51, struct.pack(">I", 6))),
    "too many user items": request(user=item(0x56, b"") * (MAX_USER_ITEMS + 1)),
    "too many transfer syntaxes": request(
        [context(1, transfer=[b"1"] * (MAX_TRANSFER_SYNTAXES + 1))]
    ),
    "too short": request()[:70],
}


@pytest.mark.parametrize("pdu", INVALID.values(), ids=INVALID.keys())
def test_a_request_that_is_none_is_refused(pdu: bytes) -> None:
    with pytest.raises(InvalidPdu):
        decode(pdu)


def test_as_much_as_is_allowed_is_taken() -> None:
    contexts = [context(1 + 2 * n) for n in range(MAX_CONTEXTS)]
    asked = decode(request(contexts, USER + item(0x56, b"") * (MAX_USER_ITEMS - 1)))
    assert len(asked.contexts) == MAX_CONTEXTS
    many = decode(request([context(1, transfer=[b"1"] * MAX_TRANSFER_SYNTAXES)]))
    assert len(many.contexts[0].transfer_syntaxes) == MAX_TRANSFER_SYNTAXES


def test_a_maximum_length_with_room_for_one_byte_is_taken() -> None:
    assert decode(request(user=item(0x51, struct.pack(">I", 7)))).max_length == 7
    assert decode(request(user=b"")).max_length == 0


def test_twenty_thousand_contexts_end_at_the_first_that_cannot_be() -> None:
    flood = request([context(1)] * 20_000)
    began = time.process_time()
    with pytest.raises(InvalidPdu, match="twice"):
        decode(flood)
    assert time.process_time() - began < 1  # pynetdicom needs seconds; this, microseconds


@given(st.binary(max_size=400))
def test_any_bytes_are_a_request_or_refused(body: bytes) -> None:
    with pytest.raises(InvalidPdu):
        decode_associate_request(body)


@given(st.data())
def test_a_request_with_any_bytes_changed_is_one_or_refused(data: st.DataObject) -> None:
    body = bytearray(request([context(1), context(3)])[6:])
    for _ in range(data.draw(st.integers(1, 8))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        asked = decode_associate_request(bytes(body))
    except InvalidPdu:
        return
    assert 1 <= len(asked.contexts) <= MAX_CONTEXTS
