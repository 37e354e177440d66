"""A-ASSOCIATE-RQ in, AC, RJ, RELEASE-RP and ABORT out; pynetdicom is the oracle for both."""

import itertools
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
    MAX_ITEMS,
    MAX_TRANSFER_SYNTAXES,
    MAX_USER_ITEMS,
    AbortReason,
    AbortSource,
    AnsweredContext,
    AssociateRequest,
    InvalidPdu,
    ProposedContext,
    decode_associate_request,
    encode_abort,
    encode_associate_accept,
    encode_associate_reject,
    encode_command,
    encode_release_response,
)

from tests.unit.store_scp.upper_layer.peer_bytes import CONTEXT, context, item, request

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


@pytest.mark.parametrize(
    ("written", "title"),
    [
        (b"CT1".ljust(16, b"\0"), "CT1"),
        (b"CT1 \0 \0\0".ljust(16), "CT1"),
        (b"A" * 15 + b"\0", "A" * 15),
        (b"A\0B".ljust(16), "A\0B"),
        (b"\0CT1".ljust(16), "\0CT1"),
        (b"\0" * 16, ""),
    ],
)
def test_a_title_loses_the_nuls_and_spaces_behind_it_and_no_others(
    written: bytes, title: str
) -> None:
    pdu = request().replace(b"CT1".ljust(16), written).replace(b"STORESCP".ljust(16), written)
    asked = decode(pdu)
    assert (asked.called_ae_title, asked.calling_ae_title) == (title, title)
    assert asked.echoed == written * 2 + b"r" * 32


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
    "no context": (request([]), "no presentation context"),
    "no item": (request()[:74], "no presentation context"),
    "even context id": (request([context(2)]), "even or there twice"),
    "a context twice": (request([context(1), context(1)]), "even or there twice"),
    "short context": (request([item(0x20, b"\x01\0\0")]), "context is too short"),
    "empty context": (request([item(0x20, b"")]), "context is too short"),
    "item too long": (request()[:-1], "longer than what holds it"),
    "unknown item too long": (request() + b"\x99\0\0\x0a\0\0", "longer than what holds it"),
    "item header cut off": (request() + b"\x50\x00\x00", "header is cut off"),
    "context's item header cut off": (
        request([item(0x20, b"\x01\0\0\0\x30\0\0")]),
        "header is cut off",
    ),
    "user item too long": (request(user=b"\x51\0\0\x05\0\0\0\x07"), "longer than what holds it"),
    "max length of three bytes": (request(user=item(0x51, b"\0\0\1")), "wrong length"),
    "max length of five bytes": (request(user=item(0x51, b"\0\0\0\1\0")), "wrong length"),
    "window of three bytes": (request(user=USER + item(0x53, b"\0\0\1")), "wrong length"),
    "max length without room": (request(user=item(0x51, struct.pack(">I", 6))), "no room"),
    "too many user items": (
        request(user=item(0x56, b"") * (MAX_USER_ITEMS + 1)),
        "too many user information items",
    ),
    "too many transfer syntaxes": (
        request([context(1, transfer=[b"1"] * (MAX_TRANSFER_SYNTAXES + 1))]),
        "too many transfer syntaxes",
    ),
    "too short": (request()[:73], "A-ASSOCIATE-RQ is too short"),
}


@pytest.mark.parametrize(("pdu", "why"), INVALID.values(), ids=INVALID.keys())
def test_a_request_that_is_none_is_refused(pdu: bytes, why: str) -> None:
    with pytest.raises(InvalidPdu, match=why):
        decode(pdu)


FIXED = request()[6:74]
APPLICATION = item(0x10, CONTEXT.encode())
CONTEXTS = (context(5, b"1.5", [b"1.7", b"1.6"]), context(3), context(251))
WINDOW = item(0x53, struct.pack(">HH", 8, 2))


@pytest.mark.parametrize("items", list(itertools.permutations([0, 1, 2])))
def test_the_items_of_a_request_may_have_any_order(items: tuple[int, ...]) -> None:
    """PS3.8 Table 9-11 asks for none; that of contexts and of syntaxes is the peer's choice."""
    parts = (APPLICATION, b"".join(CONTEXTS), item(0x50, WINDOW + USER))
    asked = decode_associate_request(FIXED + b"".join(parts[each] for each in items))
    assert asked == decode(request(CONTEXTS, USER + WINDOW))
    assert [each.context_id for each in asked.contexts] == [5, 3, 251]
    assert asked.contexts[0] == ProposedContext(5, "1.5", ("1.7", "1.6"))
    assert asked.application_context == CONTEXT
    assert (asked.max_length, asked.operations) == (16_384, (8, 2))


def test_a_contexts_syntaxes_may_have_any_order() -> None:
    value = item(0x40, b"1.7") + item(0x30, b"1.5") + item(0x40, b"1.6")
    (only,) = decode(request([item(0x20, b"\x01\0\0\0" + value)])).contexts
    assert only == ProposedContext(1, "1.5", ("1.7", "1.6"))


def test_an_item_counts_only_in_the_item_it_belongs_to() -> None:
    syntaxes = item(0x30, b"1.9") + item(0x40, b"1.9")
    other = item(0x10, b"1.9") + context(9)
    astray = syntaxes + item(0x51, struct.pack(">I", 99)) + WINDOW + item(0x99, b"?")
    asked = decode_associate_request(
        FIXED
        + APPLICATION
        + astray
        + item(0x20, b"\x01\0\0\0" + WINDOW + item(0x30, b"1.2") + other + item(0x40, b"1.3"))
        + item(0x50, syntaxes + USER + other + item(0x50, WINDOW))
        + astray
    )
    assert asked == decode(request())


def test_of_what_is_there_twice_the_first_application_context_counts_and_else_the_last() -> None:
    twice = item(0x30, b"1.9") + item(0x30, b"1.2") + item(0x40, b"1.3")
    first = item(0x51, struct.pack(">I", 99)) + WINDOW
    asked = decode_associate_request(
        FIXED
        + APPLICATION
        + item(0x10, b"1.9")
        + item(0x20, b"\x01\0\0\0" + twice)
        + item(0x50, first)
        + item(0x50, item(0x51, struct.pack(">I", 99)) + USER)
    )
    assert asked == decode(request())


def test_a_text_is_taken_without_its_padding() -> None:
    padded = item(0x10, CONTEXT.encode() + b"\0")
    value = b"\x01\0\0\0" + item(0x30, b"1.2 ") + item(0x40, b"1.3\0 \0")
    asked = decode_associate_request(FIXED + padded + item(0x20, value) + item(0x50, USER))
    assert asked == decode(request())


def test_a_context_that_names_nothing_is_negotiations_to_refuse() -> None:
    assert decode(request([item(0x20, b"\x01\0\0\0")])).contexts == (ProposedContext(1, "", ()),)


def test_our_acceptance_has_its_items_in_the_standards_order() -> None:
    """PS3.8 Table 9-17, and sub-items by type, for peers that read them in no other."""
    asked = decode(request([context(3), context(1)]))
    answers = [AnsweredContext(each.context_id, 0, "1.3") for each in asked.contexts]
    body = encode_associate_accept(asked, answers, 16_384, (4, 1), ("1.2.3", "OURS"))[74:]
    items = split(body)
    assert [kind for kind, _ in items] == [0x10, 0x21, 0x21, 0x50]
    assert [value[0] for kind, value in items if kind == 0x21] == [3, 1]
    assert [kind for kind, _ in split(items[-1][1])] == [0x51, 0x52, 0x53, 0x55]


def split(data: bytes) -> list[tuple[int, bytes]]:
    """Items, as a peer takes them apart."""
    items = []
    while data:
        (kind, length), data = struct.unpack(">BxH", data[:4]), data[4:]
        items.append((kind, data[:length]))
        data = data[length:]
    return items


def test_as_much_as_is_allowed_is_taken() -> None:
    contexts = [context(1 + 2 * n) for n in range(128)]
    asked = decode(request(contexts, USER + item(0x56, b"") * (MAX_USER_ITEMS - 1)))
    assert len(asked.contexts) == 128
    many = decode(request([context(1, transfer=[b"1"] * MAX_TRANSFER_SYNTAXES)]))
    assert len(many.contexts[0].transfer_syntaxes) == MAX_TRANSFER_SYNTAXES


def test_a_request_may_have_so_many_items_in_all_and_no_more() -> None:
    # Each context of 62 transfer syntaxes is 64 items; beside them are two of the request's own.
    contexts = [context(number, transfer=[b"1"] * 62) for number in range(1, 255, 2)]
    spare = MAX_ITEMS - 64 * len(contexts) - 3
    assert len(decode(request(contexts, USER + item(0x56, b"") * spare)).contexts) == 127
    with pytest.raises(InvalidPdu, match="too many items"):
        decode(request(contexts, USER + item(0x56, b"") * (spare + 1)))
    with pytest.raises(InvalidPdu, match="too many items"):
        decode(request(user=USER) + item(0x99, b"") * MAX_ITEMS)


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
    assert 1 <= len(asked.contexts) <= 128
