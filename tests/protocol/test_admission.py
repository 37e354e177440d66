"""Who gets in, and on which presentation contexts (docs/faults.md)."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE

from tests.protocol.fake_s3 import FakeS3
from tests.protocol.peer import SERVICE_USER, Peer, Wire
from tests.protocol.receiver import PLANTED, ReceiverProcess
from tests.protocol.shared import FEW, SharedReceivers
from tests.protocol.vitals import CT, GOOD, store_well, unharmed, until
from tests.protocol.wire import ASSOCIATE_RQ, VERIFICATION, Proposal, pdu
from tests.unit.store_scp.builders import (
    CT_IMAGE,
    DEFLATED,
    EXPLICIT_BE,
    EXPLICIT_LE,
    IMPLICIT_LE,
)

FIND = "1.2.840.10008.5.1.4.1.2.2.1"
JPEG = "1.2.840.10008.1.2.4.50"
PRIVATE_CLASS = "1.3.12.2.1107.5.9.1"
ECHO = [(VERIFICATION, [IMPLICIT_LE])]

POLICY = """
[[ae]]
name = "busy"
calling = ["BUSY"]
max_associations = 2

[[ae]]
name = "others"
"""


def welcome(process: ReceiverProcess) -> Peer:
    return Peer(process.port, CT, "MR1", "OURS")


STRICT = {
    "AE_TITLE": "OURS",
    "REQUIRE_CALLED_AE_TITLE": "true",
    "REQUIRE_CALLING_AE_TITLE": "CT1,MR1",
    "SUPPORTED_SOP_CLASS_UIDS": CT_IMAGE,
}


@pytest.fixture
def strict(receivers: SharedReceivers) -> Iterator[ReceiverProcess]:
    """A receiver that names who may come, and with what."""
    with receivers.using(STRICT, welcome) as process:
        yield process


@pytest.mark.fault("titles")
@pytest.mark.parametrize(
    ("calling", "called", "triple", "why"),
    [
        ("CT1", "OTHER", (1, 1, 7), "no entry serves the called AE title"),
        ("US9", "OURS", (1, 1, 3), "no entry for the called AE title names the calling AE title"),
    ],
)
def test_an_unknown_title_is_rejected_with_its_triple(
    strict: ReceiverProcess, calling: str, called: str, triple: tuple[int, ...], why: str
) -> None:
    assert Peer(strict.port, ECHO, calling, called).rejected() == triple
    line = strict.wait_for("association", outcome="rejected", calling_ae=calling, called_ae=called)
    assert line["why"] == why
    assert (line["entry"], line["proposed"]) == ("default", ("Verification SOP Class",))
    assert line["key"] in line["needs"]


@pytest.mark.fault("titles")
@pytest.mark.parametrize(
    "title",
    [
        b"CT\r\n" + PLANTED.encode(),
        b"A\\B",
        b" " * 16,
        b"\0" * 16,
        b"CT\0" + b"1" * 13,
        b"\xc4\xff",
        b"A\x1b[2J",
    ],
)
def test_a_malformed_title_does_not_get_in_and_is_not_logged(
    receiver: ReceiverProcess, title: bytes
) -> None:
    assert Peer(receiver.port, ECHO, calling=title).rejected() == (1, 1, 3)
    assert Peer(receiver.port, ECHO, called=title).rejected() == (1, 1, 7)
    line = receiver.wait_for("association", why="the calling AE title is malformed")
    assert line["calling_ae"] is None


@pytest.mark.fault("association-limit")
def test_the_limit_holds_over_all_workers_and_ends(few_places: ReceiverProcess) -> None:
    with ExitStack() as opened:
        for _ in range(FEW):
            opened.enter_context(Peer(few_places.port, CT))
        for _ in range(8):  # whichever worker the kernel chooses
            assert Peer(few_places.port, CT, "LATE").rejected() == (2, 3, 2)
    line = few_places.wait_for("association", outcome="rejected", calling_ae="LATE")
    assert line["why"] == f"as many associations as MAXIMUM_ASSOCIATIONS allows are open: {FEW}"


@pytest.mark.fault("association-limit")
def test_the_limit_of_an_entry_holds_over_all_workers_and_for_nobody_else(
    tmp_path: Path,
) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY)
    with unharmed(
        STORAGE_DIR=str(tmp_path / "storage"), SCP_POLICY=str(policy), SCP_WORKERS="2"
    ) as process:
        with Peer(process.port, CT, "BUSY"), Peer(process.port, CT, "BUSY"):
            for _ in range(8):
                assert Peer(process.port, CT, "BUSY").rejected() == (2, 3, 2)
            store_well(process)
        line = process.wait_for("association", outcome="rejected", key="max_associations")
        assert line["entry"] == "busy"
        with Peer(process.port, CT, "BUSY") as again:
            assert again.accepted.results[1] == (0, EXPLICIT_LE)


@pytest.mark.fault("association-limit")
def test_a_seat_is_free_as_soon_as_its_peer_vanishes(few_places: ReceiverProcess) -> None:
    for _ in range(5):
        for _ in range(FEW):
            with Peer(few_places.port, CT) as peer:
                peer.vanish()
        until(lambda: not few_places.metrics()["established_associations"], "a seat is taken")


@pytest.mark.fault("presentation-contexts")
def test_contexts_are_answered_one_by_one(receiver: ReceiverProcess) -> None:
    contexts = [
        (CT_IMAGE, [IMPLICIT_LE, EXPLICIT_LE]),
        (CT_IMAGE, [IMPLICIT_LE]),
        (CT_IMAGE, [JPEG, EXPLICIT_LE]),
        (CT_IMAGE, [IMPLICIT_LE, DEFLATED, EXPLICIT_BE]),
        (PRIVATE_CLASS, [EXPLICIT_LE]),
        (FIND, [EXPLICIT_LE]),
        (CT_IMAGE, ["1.2.840.10008.1.2.4.94"]),
        ("1" * 70, [EXPLICIT_LE]),
        ("../" + PLANTED, [EXPLICIT_LE]),
    ]
    with Peer(receiver.port, contexts) as peer:
        assert peer.accepted.results == {
            1: (0, EXPLICIT_LE),
            3: (0, IMPLICIT_LE),
            5: (0, JPEG),
            7: (0, EXPLICIT_BE),
            9: (0, EXPLICIT_LE),
            11: (3, IMPLICIT_LE),
            13: (4, IMPLICIT_LE),
            15: (3, IMPLICIT_LE),
            17: (3, IMPLICIT_LE),
        }


@pytest.mark.fault("presentation-contexts")
def test_a_request_whose_contexts_are_all_unknown_is_no_rejection(
    receiver: ReceiverProcess,
) -> None:
    with Peer(receiver.port, [(FIND, [EXPLICIT_LE])], "ASKER") as peer:
        assert peer.accepted.results == {1: (3, IMPLICIT_LE)}
    line = receiver.wait_for("nothing_to_store", calling_ae="ASKER")
    find = "Study Root Query/Retrieve Information Model - FIND"
    assert line["refused_contexts"] == (f"{find}: this receiver stores and verifies only",)


@pytest.mark.fault("presentation-contexts")
@pytest.mark.parametrize(
    "request_bytes",
    [
        Proposal([]).encoded(),
        Proposal(ECHO, ids=[2]).encoded(),
        Proposal(ECHO, ids=[0]).encoded(),
        Proposal(ECHO + ECHO, ids=[1, 1]).encoded(),
        pdu(ASSOCIATE_RQ, Proposal(ECHO).encoded()[6:-9]),
    ],
    ids=["none", "even", "zero", "twice", "cut off"],
)
def test_no_contexts_or_an_impossible_id_is_an_invalid_pdu(
    receiver: ReceiverProcess, request_bytes: bytes
) -> None:
    with Wire(receiver.port) as wire:
        wire.send(request_bytes)
        # The request was not valid, so there is no association yet that a provider could abort.
        assert wire.abort_source() == SERVICE_USER


def test_pynetdicom_stores_a_private_class_in_every_transfer_syntax_it_encodes(
    storing: ReceiverProcess,
) -> None:
    transfer_syntaxes = [EXPLICIT_LE, IMPLICIT_LE, EXPLICIT_BE, DEFLATED]
    for each in transfer_syntaxes:
        assert stored_by_pynetdicom(storing, each) == 0x0000
    names = {path.name for path in (storing.storage / "1.2" / "1.2.1").iterdir()}
    assert names == {f"{each}.1.dcm" for each in transfer_syntaxes}


def stored_by_pynetdicom(process: ReceiverProcess, transfer_syntax: str) -> int:
    """The status of a C-STORE of a private class."""
    data = Dataset()
    data.SOPClassUID = PRIVATE_CLASS
    data.SOPInstanceUID = transfer_syntax + ".1"
    data.StudyInstanceUID, data.SeriesInstanceUID = "1.2", "1.2.1"
    data.PatientName = PLANTED
    data.ensure_file_meta()
    data.file_meta.TransferSyntaxUID = UID(transfer_syntax)
    entity = AE("PRIVATE")
    entity.add_requested_context(PRIVATE_CLASS, transfer_syntax)
    association = entity.associate("127.0.0.1", process.port)
    assert association.is_established
    status = int(association.send_c_store(data).Status)
    association.release()
    return status


def test_only_listed_classes_are_accepted_where_there_is_a_list(strict: ReceiverProcess) -> None:
    contexts = [(uid, [IMPLICIT_LE]) for uid in (CT_IMAGE, PRIVATE_CLASS, VERIFICATION)]
    with Peer(strict.port, contexts, "CT1", "OURS") as peer:
        results = {number: result for number, (result, _) in peer.accepted.results.items()}
        assert results == {1: 0, 3: 3, 5: 0}


def test_echo_is_answered(receiver: ReceiverProcess) -> None:
    with Peer(receiver.port, ECHO, "ECHOER") as peer:
        assert peer.echo().status == 0x0000
    line = receiver.wait_for("association", outcome="released", calling_ae="ECHOER")
    assert line["peer"] == "127.0.0.1"


def test_an_ipv4_peer_of_a_dual_stack_listener_is_logged_and_kept_as_ipv4(s3: FakeS3) -> None:
    with ReceiverProcess(**s3.environment, SCP_BIND_ADDRESS="::") as process:
        with Peer(process.port, CT, "DUAL") as peer:
            assert peer.store(GOOD, CT_IMAGE, "1.2.3.4").status == 0x0000
        assert process.wait_for("association", calling_ae="DUAL")["peer"] == "127.0.0.1"
        with Wire(process.port) as wire:
            wire.send(b"GET / HTTP/1.1\r\n\r\n")
            wire.abort_source()
        assert process.wait_for("connection_refused")["peer"] == "127.0.0.1"
    manifest = json.loads(s3.objects[s3.wait_for_manifest()])
    assert manifest["source"]["peerAddresses"] == ["127.0.0.1"]


def test_echo_belongs_on_a_verification_context(receiver: ReceiverProcess) -> None:
    with Peer(receiver.port, [(CT_IMAGE, [IMPLICIT_LE])]) as peer:
        assert peer.echo().status == 0x0122
