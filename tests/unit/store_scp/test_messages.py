import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_scp.dimse.commands import MAX_COMMAND_BYTES, CommandInvalid
from store_scp.dimse.messages import (
    MAX_EMPTY_FRAGMENTS,
    DataReceived,
    MessageComplete,
    MessageReader,
    MessageStarted,
)
from store_scp.upper_layer import DataFragment

from tests.unit.store_scp.test_commands import STORE, elements, pynetdicoms_store

COMMAND = pynetdicoms_store()
ECHO = elements((0x0100, b"\x30\0"), (0x0110, b"\1\0"), (0x0800, b"\1\1"))


def command(data: bytes, *, last: bool = True, context_id: int = 1) -> DataFragment:
    return DataFragment(context_id, True, last, memoryview(data))


def data(data: bytes, *, last: bool = True, context_id: int = 1) -> DataFragment:
    return DataFragment(context_id, False, last, memoryview(data))


def read(*fragments: DataFragment) -> list[object]:
    reader = MessageReader()
    return [event for fragment in fragments for event in reader.feed(fragment)]


@pytest.mark.parametrize("cut", [1, 8, 50])
def test_a_message_with_a_data_set(cut: int) -> None:
    events = read(
        command(COMMAND[:cut], last=False),
        command(COMMAND[cut:]),
        data(b"da", last=False),
        data(b"ta"),
    )
    assert events == [
        MessageStarted(1, STORE),
        DataReceived(memoryview(b"da")),
        DataReceived(memoryview(b"ta")),
        MessageComplete(),
    ]


def test_a_command_set_as_long_as_is_allowed_is_read() -> None:
    filler = bytes(MAX_COMMAND_BYTES - len(COMMAND) - 8)
    longest = COMMAND + elements((0x5555, filler))
    assert len(longest) == MAX_COMMAND_BYTES
    assert read(command(longest[:9], last=False), command(longest[9:])) == [
        MessageStarted(1, STORE)
    ]


def test_fragments_without_bytes_are_borne_up_to_so_many_in_a_row() -> None:
    empty = [data(b"", last=False)] * MAX_EMPTY_FRAGMENTS
    events = read(command(COMMAND), *empty, data(b"x", last=False), *empty[1:], data(b""))
    assert events[-1] == MessageComplete()
    with pytest.raises(CommandInvalid, match="without bytes"):
        read(command(COMMAND), *empty, data(b"", last=False))
    with pytest.raises(CommandInvalid, match="without bytes"):
        read(*[command(b"", last=False)] * (MAX_EMPTY_FRAGMENTS + 1))


def test_a_reader_says_whether_it_is_in_a_message_and_how_many_there_were() -> None:
    reader, told = MessageReader(), []
    for fragment in (
        command(COMMAND[:9], last=False),
        command(COMMAND[9:]),
        data(b"x", last=False),
        data(b"y"),
        command(ECHO),
    ):
        list(reader.feed(fragment))
        told.append((reader.in_message, reader.begun))
    assert told == [(True, 1), (True, 1), (True, 1), (False, 1), (False, 2)]


def test_messages_follow_each_other_on_any_context() -> None:
    events = read(
        command(ECHO), command(COMMAND, context_id=3), data(b"x", context_id=3), command(ECHO)
    )
    assert [type(each) for each in events] == [
        MessageStarted, MessageComplete,
        MessageStarted, DataReceived, MessageComplete,
        MessageStarted, MessageComplete,
    ]  # fmt: skip


ECHO_WITH_DATA = elements((0x0100, b"\x30\0"), (0x0110, b"\1\0"), (0x0800, b"\0\0"))


@pytest.mark.parametrize(
    "fragments",
    [
        [data(b"x")],
        [command(COMMAND), command(COMMAND)],
        [command(COMMAND[:9], last=False), data(b"x")],
        [command(COMMAND), data(b"x", context_id=3)],
        [command(COMMAND[:9], last=False), command(COMMAND[9:], context_id=3)],
        [command(bytes(MAX_COMMAND_BYTES), last=False), command(b"x", last=False)],
        [command(b"garbage")],
        [command(ECHO_WITH_DATA)],
    ],
)
def test_a_fragment_out_of_place_is_refused(fragments: list[DataFragment]) -> None:
    with pytest.raises(CommandInvalid):
        read(*fragments)


@given(
    st.lists(
        st.builds(
            DataFragment,
            st.sampled_from([1, 3]),
            st.booleans(),
            st.booleans(),
            st.sampled_from([COMMAND, ECHO, b"", b"x"]).map(memoryview),
        ),
        max_size=8,
    )
)
def test_any_fragments_give_messages_or_the_error(fragments: list[DataFragment]) -> None:
    try:
        events = read(*fragments)
    except CommandInvalid:
        return
    starts = sum(isinstance(each, MessageStarted) for each in events)
    assert starts - sum(isinstance(each, MessageComplete) for each in events) in (0, 1)
