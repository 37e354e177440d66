"""Bytes in any pieces give the same events and the same answer; nothing is ever raised."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_scp.upper_layer import (
    Aborted,
    AssociationRequested,
    Connection,
    DataFragment,
    IllegalTransition,
    ProtocolViolated,
    Released,
    State,
)
from store_scp.upper_layer.pdus import AbortSource, AnsweredContext

from tests.unit.store_scp.upper_layer.peer_bytes import (
    ABORT,
    ANY,
    IMPLEMENTATION,
    MAX_LENGTH,
    RELEASE,
    context,
    converse,
    cut,
    p_data,
    pdu,
    pdv,
    request,
)

MESSAGE = p_data(pdv(1, 3, b"command")) + p_data(pdv(1, 0, b"da"), pdv(1, 2, b"ta"))
CONVERSATION = request() + MESSAGE + MESSAGE + RELEASE


def answers(sent: bytes) -> list[tuple[int, bytes]]:
    """The PDUs of a stream: type and body."""
    found = []
    while sent:
        kind, length = struct.unpack_from(">BxI", sent)
        found.append((kind, sent[6 : 6 + length]))
        sent = sent[6 + length :]
    return found


def violation(stream: bytes) -> tuple[int, int, int]:
    """The events' last is a violation; the last PDU out is an A-ABORT: its source and reason."""
    events, sent = converse([stream])
    assert isinstance(events[-1], ProtocolViolated)
    kind, body = answers(sent)[-1]
    assert kind == 7
    return len(events), body[2], body[3]


def established() -> Connection:
    connection = Connection(MAX_LENGTH)
    for _ in connection.receive(memoryview(request()), ANY):
        connection.accept([AnsweredContext(1, 0, "1.3")], None, IMPLEMENTATION)
    connection.data_to_send()
    return connection


@given(st.lists(st.integers(0, 400), max_size=8), st.integers(1, 40))
def test_what_is_dealt_with_in_slices_means_the_same(places: list[int], most: int) -> None:
    assert converse(cut(CONVERSATION, places), most) == converse([CONVERSATION])


def test_a_read_full_of_tiny_values_is_dealt_with_in_slices() -> None:
    connection = established()
    received = memoryview(p_data(*[pdv(1, 0, b"")] * 600))
    for _ in connection.receive(received, 100):
        pass
    assert (connection.steps, connection.taken, connection.payload) == (100, 6 + 99 * 6, 0)
    rest = received[connection.taken :]
    assert len(list(connection.receive(rest, 1_000))) == 600 - 99
    assert connection.taken == len(rest)


def test_a_large_request_has_a_call_to_itself_and_a_small_one_has_not() -> None:
    large = request([context(number, transfer=[b"1.3"] * 60) for number in range(1, 41, 2)])
    connection, rest = Connection(MAX_LENGTH), memoryview(large)
    assert list(connection.receive(rest, ANY)) == []
    rest = rest[connection.taken :]
    assert len(rest) == len(large) - 6
    assert connection.steps < 10
    (event,) = connection.receive(rest, ANY)
    assert isinstance(event, AssociationRequested)
    assert connection.steps > len(large) // 100
    assert connection.taken == len(rest)
    (event,) = Connection(MAX_LENGTH).receive(memoryview(request()), ANY)
    assert isinstance(event, AssociationRequested)


@given(st.lists(st.integers(0, 20_000), max_size=5), st.integers(1, 40))
def test_a_large_request_in_any_pieces_means_the_same(places: list[int], most: int) -> None:
    large = request([context(number, transfer=[b"1.3"] * 60) for number in range(1, 41, 2)])
    stream = large + MESSAGE + RELEASE
    assert converse(cut(stream, places), most) == converse([stream])


def test_a_message_costs_more_than_a_fragment() -> None:
    connection = established()
    list(connection.receive(memoryview(p_data(pdv(1, 3, b"command")) * 3), 20))
    assert connection.taken == 2 * len(p_data(pdv(1, 3, b"command")))
    assert connection.payload == 2 * len(b"command")


def test_nothing_is_left_of_what_follows_an_abort() -> None:
    connection = established()
    assert list(connection.receive(memoryview(ABORT + MESSAGE), ANY)) == [Aborted()]
    assert connection.taken == len(ABORT + MESSAGE)


def test_a_whole_conversation() -> None:
    events, sent = converse([CONVERSATION])
    assert isinstance(events[0], AssociationRequested)
    message = [
        DataFragment(1, True, True, memoryview(b"command")),
        DataFragment(1, False, True, memoryview(b"data")),
    ]
    assert events[1:] == [*message, *message, Released()]
    assert [kind for kind, _ in answers(sent)] == [2, 6]


@given(st.lists(st.integers(0, len(CONVERSATION)), max_size=30))
def test_where_reads_cut_a_conversation_changes_nothing(places: list[int]) -> None:
    assert converse(cut(CONVERSATION, places)) == converse([CONVERSATION])


def test_one_byte_at_a_time_changes_nothing() -> None:
    assert converse(cut(CONVERSATION, range(len(CONVERSATION)))) == converse([CONVERSATION])


def piece() -> st.SearchStrategy[bytes]:
    """Something a peer might send: well-formed, broken, or nothing of the kind."""
    values = st.lists(
        st.builds(pdv, st.integers(0, 5), st.integers(0, 4), st.binary(max_size=20)), max_size=3
    )
    return st.one_of(
        st.just(request()),
        st.just(RELEASE),
        st.just(ABORT),
        st.builds(lambda each: p_data(*each), values),
        st.builds(pdu, st.integers(0, 9), st.binary(max_size=12)),
        st.builds(
            lambda kind, n: struct.pack(">BxI", kind, n),
            st.integers(1, 7),
            st.integers(0, 2**32 - 1),
        ),
        st.binary(max_size=10),
    )


@given(st.lists(piece(), max_size=6), st.lists(st.integers(0, 400), max_size=12), st.booleans())
def test_any_stream_in_any_pieces_gives_the_same_and_raises_nothing(
    pieces: list[bytes], places: list[int], associated: bool
) -> None:
    stream = (request() if associated else b"") + b"".join(pieces)
    assert converse(cut(stream, places)) == converse([stream])


@given(st.integers(0, len(CONVERSATION) - 1), st.integers(0, 255), st.lists(st.integers(0, 400)))
def test_a_conversation_with_a_changed_byte_gives_the_same_in_any_pieces(
    at: int, byte: int, places: list[int]
) -> None:
    stream = CONVERSATION[:at] + bytes([byte]) + CONVERSATION[at + 1 :]
    assert converse(cut(stream, places)) == converse([stream])


def test_fragments_are_views_of_what_was_received() -> None:
    received = bytearray(p_data(pdv(1, 0, b"pixels")))
    (fragment,) = established().receive(memoryview(received), ANY)
    assert isinstance(fragment, DataFragment)
    received[-6:] = b"PIXELS"
    assert bytes(fragment.data) == b"PIXELS"


@pytest.mark.parametrize(
    "first", [MESSAGE, RELEASE, pdu(2, bytes(4)), pdu(3, bytes(4)), pdu(6, bytes(4)), pdu(9, b""),
              b"GET / HTTP/1.1\r\n", pdu(1, bytes(10)), struct.pack(">BxI", 1, 2**20 + 1),
              pdu(1, b"")]
)  # fmt: skip
def test_before_an_association_a_violation_is_the_service_users(first: bytes) -> None:
    assert violation(first) == (1, 0, 0)


@pytest.mark.parametrize(
    ("pdu_after", "reason"),
    [
        (pdu(9, b""), 1),
        (request(), 2),
        (pdu(2, bytes(4)), 2),
        (pdu(6, bytes(4)), 2),
        (struct.pack(">BxI", 4, MAX_LENGTH + 1), 6),
        (struct.pack(">BxI", 4, 0xFFFFFFF0), 6),
        (p_data(pdv(1, 2, bytes(MAX_LENGTH - 5))), 6),
        (p_data(pdv(1, 0, b"data"), b"\0\0\0"), 6),
        (pdu(4, b""), 6),
        (pdu(4, b"\0\0"), 6),
        (pdu(4, struct.pack(">IBB", 1, 1, 3)), 6),
        (pdu(4, struct.pack(">IBB", 99, 1, 3) + b"data"), 6),
        (p_data(pdv(1, 3, b"x")) [:-1] + b"", None),
        (pdu(5, bytes(5)), 6),
        (pdu(7, b""), 6),
    ],
)  # fmt: skip
def test_in_an_association_a_violation_is_the_service_providers(
    pdu_after: bytes, reason: int | None
) -> None:
    if reason is None:  # a PDU that is not complete is no violation yet
        events, _ = converse([request() + pdu_after])
        assert not isinstance(events[-1], ProtocolViolated)
    else:
        assert violation(request() + pdu_after) == (2, 2, reason)


def test_a_p_data_tf_of_just_the_negotiated_length_is_taken() -> None:
    data = bytes(MAX_LENGTH - 6)
    events, _ = converse([request() + p_data(pdv(1, 2, data))])
    assert events[-1] == DataFragment(1, False, True, memoryview(data))


def test_nothing_is_heard_behind_a_violation() -> None:
    events, sent = converse([request() + pdu(9, b"") + MESSAGE + RELEASE])
    assert len(events) == 2
    assert [kind for kind, _ in answers(sent)] == [2, 7]


def test_the_peers_abort_is_told_and_not_answered() -> None:
    events, sent = converse([request() + ABORT + MESSAGE])
    assert events[1:] == [Aborted()]
    assert [kind for kind, _ in answers(sent)] == [2]


def test_behind_a_release_data_is_skipped_and_a_second_request_is_aborted() -> None:
    events, sent = converse([request() + RELEASE + MESSAGE + request()])
    assert events[1:] == [Released()]
    assert [kind for kind, _ in answers(sent)] == [2, 6, 7]


def test_release_waits_for_what_is_owed() -> None:
    connection = established()
    assert list(connection.receive(memoryview(RELEASE), ANY)) == [Released()]
    connection.send_command(1, b"answer")
    connection.release()
    assert connection.closing
    assert [kind for kind, _ in answers(connection.data_to_send())] == [4, 6]


def test_a_rejection_closes() -> None:
    connection = Connection(MAX_LENGTH)
    list(connection.receive(memoryview(request()), ANY))
    connection.reject(1, 1, 7)
    assert answers(connection.data_to_send()) == [(3, bytes((0, 1, 1, 7)))]
    assert connection.closing
    assert not connection.gone


def test_our_own_mistakes_raise_and_change_nothing() -> None:
    connection = Connection(MAX_LENGTH)
    for wrong in (
        connection.release,
        lambda: connection.reject(1, 1, 1),
        lambda: connection.send_command(1, b""),
        lambda: connection.accept([], None, IMPLEMENTATION),
    ):
        with pytest.raises(IllegalTransition):
            wrong()
    assert connection.state is State.STA2
    assert connection.data_to_send() == b""


def test_an_abort_of_ours_has_its_source_and_ends_all() -> None:
    connection = established()
    connection.abort(AbortSource.SERVICE_PROVIDER)
    assert answers(connection.data_to_send()) == [(7, bytes((0, 0, 2, 0)))]
    assert list(connection.receive(memoryview(MESSAGE), ANY)) == []
    silent = Connection(MAX_LENGTH)
    silent.abort()
    assert silent.data_to_send() == b""


def test_artim_and_the_transports_end() -> None:
    silent = Connection(MAX_LENGTH)
    silent.artim_expired()
    assert silent.gone
    assert not silent.transport_closed()
    assert established().transport_closed()


def test_a_pdu_is_under_way_from_its_first_byte_to_its_last() -> None:
    connection = established()
    stream = p_data(pdv(1, 0, b"data"))
    assert not connection.in_pdu
    for at in range(len(stream)):
        list(connection.receive(memoryview(stream[at : at + 1]), ANY))
        assert connection.in_pdu == (at + 1 < len(stream))
    assert connection.pdus == 2


def test_an_empty_value_ends_its_message_however_it_arrives() -> None:
    stream = request() + p_data(pdv(1, 2, b""))
    for chunks in ([stream], cut(stream, range(len(stream)))):
        events, _ = converse(chunks)
        assert events[1:] == [DataFragment(1, False, True, memoryview(b""))]


def test_a_request_as_long_as_is_allowed_is_waited_for() -> None:
    connection = Connection(MAX_LENGTH)
    assert list(connection.receive(memoryview(struct.pack(">BxI", 1, 2**20)), ANY)) == []
    assert connection.in_pdu


def test_bytes_that_look_like_a_pdu_inside_a_header_begin_none() -> None:
    # From its second, reserved byte on it could be a P-DATA-TF of 4,096 bytes with one good value.
    header = struct.pack(">BBIIBB", 4, 4, 16, 15, 0xFC, 2)
    stream = request() + header + bytes(20)
    assert violation(stream) == (2, 2, 6)
    assert converse(cut(stream, [len(request()) + 1])) == converse([stream])


def test_bytes_that_look_like_a_pdu_inside_a_pdu_begin_none() -> None:
    assert violation(request() + p_data(pdv(1, 0, b"da"), p_data(pdv(1, 2, b"ta")))) == (3, 2, 6)


def test_data_behind_a_release_is_stepped_over_to_its_end() -> None:
    events, sent = converse([request() + RELEASE + MESSAGE + ABORT])
    assert events[1:] == [Released()]
    assert [kind for kind, _ in answers(sent)] == [2, 6]
