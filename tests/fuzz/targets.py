"""What is fuzzed, and what must hold: our errors only, and the same result in any pieces."""

from collections.abc import Callable
from contextlib import suppress

from store_scp.dimse.commands import CommandInvalid, decode_command
from store_scp.dimse.messages import MessageReader
from store_scp.errors import ProxyHeaderInvalid
from store_scp.openings import Ports, refused_as_dicom, refused_as_proxied, refused_as_tls
from store_scp.proxy_protocol import HEADER_BYTES, body_length, source_address
from store_scp.upper_layer import DataFragment
from store_scp.upper_layer.pdus import InvalidPdu, decode_associate_request

from contract.header import HeaderIncomplete, HeaderReader, HeaderUnreadable, read_header
from contract.uids import is_uid
from tests.unit.store_scp.upper_layer.peer_bytes import converse, cut, request

_SYNTAXES = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.1.99",
)


def connection(data: bytes) -> None:
    """The upper layer and DIMSE messages.

    The first bytes say where reads cut the stream, and how much is dealt with at once.
    """
    places, stream = [3 * each for each in data[:8]], data[8:]
    if len(data) > 8 and data[0] % 2:
        stream = request() + stream
    whole = converse([stream])
    if converse(cut(stream, places), 1 + places[0]) != whole:
        raise AssertionError("cut differently, it means something else")
    reader = MessageReader()
    with suppress(CommandInvalid):
        for event in whole[0]:
            if isinstance(event, DataFragment):
                list(reader.feed(event))


def associate_request(data: bytes) -> None:
    """The variable part of an A-ASSOCIATE-RQ."""
    with suppress(InvalidPdu):
        if not decode_associate_request(data).contexts:
            raise AssertionError("a request without contexts")


def command(data: bytes) -> None:
    """A command set."""
    with suppress(CommandInvalid):
        decode_command(data)


def header(data: bytes) -> None:
    """A data set in any transfer syntax: UIDs or a refusal, and the same where it comes in two."""
    syntax, data_set = _SYNTAXES[data[0] % len(_SYNTAXES)], memoryview(data[1:])
    with suppress(HeaderUnreadable):
        found = read_header(data_set, syntax)
        uids = (found.sop_class_uid, found.sop_instance_uid, found.study_instance_uid)
        if not all(map(is_uid, (*uids, found.series_instance_uid))):
            raise AssertionError("not a UID")
        reader = HeaderReader(syntax)
        with suppress(HeaderIncomplete):
            reader.read(data_set[: len(data_set) // 2], 3)
            while (again := reader.read(data_set, 3)) is None:
                pass
            if again != found:
                raise AssertionError("read in two pieces, it is another header")


def proxy(data: bytes) -> None:
    """A PROXY protocol header."""
    with suppress(ProxyHeaderInvalid):
        start = data[:HEADER_BYTES]
        source_address(start, data[HEADER_BYTES : HEADER_BYTES + body_length(start)])


def opened(data: bytes) -> None:
    """What a connection begins with: told in our own words, whatever it is."""
    for ports in (Ports(), Ports(11_112, 2_762), Ports(None, 2_762, proxied=True)):
        told = {
            refused_as_dicom(data, "why", ports),
            refused_as_tls(data, ports),
            refused_as_proxied(data, "why"),
        }
        if not all(each.why and each.needs for each in told):
            raise AssertionError("refused without a word")


# By the first byte of the input.
TARGETS: tuple[Callable[[bytes], None], ...] = (
    connection, associate_request, command, header, proxy, opened,
)  # fmt: skip


def run(data: bytes) -> None:
    """One input; raises what must not be."""
    if len(data) > 1:
        TARGETS[data[0] % len(TARGETS)](data[1:])
