"""PDUs as a peer would send them, made by hand, and a conversation run in any pieces."""

import itertools
import struct
from collections.abc import Iterable, Sequence

from store_scp.upper_layer import (
    AssociationRequested,
    Connection,
    DataFragment,
    Event,
    Released,
)
from store_scp.upper_layer.pdus import AnsweredContext

MAX_LENGTH = 4_096
# So many steps as no test's stream has.
ANY = 1_000_000
IMPLEMENTATION = ("1.2.3", "TEST")
CONTEXT = "1.2.840.10008.3.1.1.1"


def pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxI", kind, len(body)) + body


def item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


def context(
    context_id: int, abstract: bytes = b"1.2", transfer: Sequence[bytes] = (b"1.3",)
) -> bytes:
    syntaxes = item(0x30, abstract) + b"".join(item(0x40, each) for each in transfer)
    return item(0x20, struct.pack(">B3x", context_id) + syntaxes)


def request(
    contexts: Iterable[bytes] = (context(1),),
    user: bytes = item(0x51, struct.pack(">I", 16_384)),
    version: int = 1,
) -> bytes:
    """A whole A-ASSOCIATE-RQ."""
    fixed = struct.pack(
        ">HH16s16s32s", version, 0, b"STORESCP".ljust(16), b"CT1".ljust(16), b"r" * 32
    )
    return pdu(1, fixed + item(0x10, CONTEXT.encode()) + b"".join(contexts) + item(0x50, user))


def pdv(context_id: int, control: int, data: bytes) -> bytes:
    return struct.pack(">IBB", len(data) + 2, context_id, control) + data


def p_data(*values: bytes) -> bytes:
    return pdu(4, b"".join(values))


RELEASE = pdu(5, bytes(4))
ABORT = pdu(7, bytes(4))


def converse(chunks: Iterable[bytes], most: int = ANY) -> tuple[list[Event], bytes]:
    """Everything a connection says, to us and to the peer, if whatever is asked for is granted.

    ``most`` is how many steps it may do at once.
    """
    connection = Connection(MAX_LENGTH)
    events: list[Event] = []
    for chunk in chunks:
        rest = memoryview(chunk)
        while rest:
            for event in connection.receive(rest, most):
                events.append(_kept(event))
                _grant(connection, event)
            rest = rest[connection.taken :]
    return joined(events), connection.data_to_send()


def _grant(connection: Connection, event: Event) -> None:
    if isinstance(event, AssociationRequested):
        answers = [AnsweredContext(each.context_id, 0, "1.3") for each in event.request.contexts]
        connection.accept(answers, None, IMPLEMENTATION)
    elif isinstance(event, Released):
        connection.release()


def _kept(event: Event) -> Event:
    """A fragment's bytes are the chunk's, and a test keeps them."""
    if isinstance(event, DataFragment):
        return event._replace(data=memoryview(bytes(event.data)))
    return event


def joined(events: Iterable[Event]) -> list[Event]:
    """Pieces of one presentation data value as one fragment: where reads cut it means nothing."""
    result: list[Event] = []
    for event in events:
        before = result[-1] if result else None
        if (
            isinstance(event, DataFragment)
            and isinstance(before, DataFragment)
            and not before.last
            and (before.context_id, before.is_command) == (event.context_id, event.is_command)
        ):
            data = memoryview(bytes(before.data) + bytes(event.data))
            result[-1] = event._replace(data=data)
        else:
            result.append(event)
    return result


def cut(stream: bytes, at: Iterable[int]) -> list[bytes]:
    """The stream in the pieces that these places make."""
    places = [0, *sorted({min(each, len(stream)) for each in at}), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(places)]
