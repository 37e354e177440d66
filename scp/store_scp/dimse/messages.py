"""Messages from fragments (PS3.7 6.3.1, PS3.8 Annex E): a command set, then perhaps a data set."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from store_scp.dimse.commands import (
    MAX_COMMAND_BYTES,
    Command,
    CommandField,
    CommandInvalid,
    decode_command,
)
from store_scp.upper_layer import DataFragment

# PS3.8 allows a fragment without bytes, and some senders end a data set with one. So many in a row
# bring a message nowhere, and cost as much as any others.
MAX_EMPTY_FRAGMENTS = 256


class MessageStarted(NamedTuple):
    """A request's command set is complete; its data set follows if it has one."""

    context_id: int
    command: Command


class DataReceived(NamedTuple):
    """A piece of the started message's data set, valid until the received bytes are reused."""

    data: memoryview


@dataclass(frozen=True, slots=True)
class MessageComplete:
    """The started message has nothing more to come."""


MessageEvent = MessageStarted | DataReceived | MessageComplete

_COMPLETE = MessageComplete()


class MessageReader:
    """Puts one association's messages together; the messages of PS3.7 do not interleave."""

    def __init__(self) -> None:
        self._command = bytearray()
        self._context_id: int | None = None
        self._in_data_set = False
        self._empty_fragments = 0
        self._begun = 0

    @property
    def in_message(self) -> bool:
        """Whether a message has begun and is not complete."""
        return self._context_id is not None

    @property
    def begun(self) -> int:
        """How many messages have begun."""
        return self._begun

    def feed(self, fragment: DataFragment) -> Iterator[MessageEvent]:
        """The next fragment; raises CommandInvalid if it does not belong where it comes."""
        if self._context_id not in (None, fragment.context_id):
            raise CommandInvalid("a message changes its presentation context")
        if fragment.is_command == self._in_data_set:
            raise CommandInvalid("a command set and a data set do not alternate")
        self._count_empty(fragment)
        if self._in_data_set:
            yield DataReceived(fragment.data)
            if fragment.last:
                self._in_data_set, self._context_id = False, None
                yield _COMPLETE
            return
        if self._context_id is None:
            self._context_id = fragment.context_id
            self._begun += 1
        if len(self._command) + len(fragment.data) > MAX_COMMAND_BYTES:
            raise CommandInvalid("a command set is too long")
        self._command += fragment.data
        if fragment.last:
            yield from self._command_complete(fragment.context_id)

    def _count_empty(self, fragment: DataFragment) -> None:
        if fragment.data:
            self._empty_fragments = 0
            return
        self._empty_fragments += 1
        if self._empty_fragments > MAX_EMPTY_FRAGMENTS:
            raise CommandInvalid("too many fragments without bytes in a row")

    def _command_complete(self, context_id: int) -> Iterator[MessageEvent]:
        command = decode_command(bytes(self._command))
        self._command.clear()
        if command.field is CommandField.C_ECHO_RQ and command.has_data_set:
            raise CommandInvalid("a C-ECHO-RQ has a data set")
        self._in_data_set = command.has_data_set
        if not command.has_data_set:
            self._context_id = None
        yield MessageStarted(context_id, command)
        if not command.has_data_set:
            yield _COMPLETE
