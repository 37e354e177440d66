"""Streams of bytes that went wrong once, played into the real receiver."""

from tests.protocol.case_files import play
from tests.protocol.receiver import ReceiverProcess
from tests.protocol.wire import ASSOCIATE_AC, P_DATA, RELEASE_RP, Accepted, Response
from tests.unit.store_scp.builders import EXPLICIT_LE, IMPLICIT_LE


def test_a_private_transfer_syntax_is_not_chosen_before_explicit_little_endian(
    receiver: ReceiverProcess,
) -> None:
    with play(receiver.port, "private_syntax_before_standard.bin") as wire:
        kind, body = wire.read()
        assert kind == ASSOCIATE_AC
        assert Accepted.decoded(body).results == {1: (0, EXPLICIT_LE)}
        assert wire.read()[0] == RELEASE_RP


def test_titles_padded_with_nul_are_accepted_and_echoed_as_they_came(
    receiver: ReceiverProcess,
) -> None:
    with play(receiver.port, "nul_padded_titles.bin") as wire:
        kind, body = wire.read()
    assert kind == ASSOCIATE_AC
    assert body[4:36] == b"STORESCP".ljust(16, b"\0") + b"VERIFY".ljust(16, b"\0")
    results = Accepted.decoded(body).results
    assert results == {1: (0, IMPLICIT_LE), 3: (0, IMPLICIT_LE)}
    line = receiver.wait_for("association", calling_ae="VERIFY")
    assert (line["called_ae"], line["outcome"]) == ("STORESCP", "aborted")


def test_file_meta_in_a_data_set_is_refused_and_nothing_is_stored(
    receiver: ReceiverProcess,
) -> None:
    refused(receiver, "meta_group_in_data_set.bin", "a data set has no group 0002")


def test_tags_out_of_order_are_refused_as_such(receiver: ReceiverProcess) -> None:
    refused(receiver, "tags_out_of_order.bin", "tags out of order")


def refused(receiver: ReceiverProcess, name: str, why: str) -> None:
    """The C-STORE of a case is answered C000H; the fixture sees to it that nothing is stored."""
    with play(receiver.port, name) as wire:
        assert wire.read()[0] == ASSOCIATE_AC
        kind, body = wire.read()
        assert kind == P_DATA
        assert Response.decoded(body[6:]).status == 0xC000
    assert receiver.wait_for("store_refused", status="C000H")["why"] == why
