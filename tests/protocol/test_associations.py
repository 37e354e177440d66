"""Who gets in, what is negotiated, and what is logged of it (faults.md rows 1, 8, 11 to 13)."""

import contextlib
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE

from tests.protocol.peer import ABORT, ASSOCIATE_AC, ASSOCIATE_RJ, VERIFICATION, Peer
from tests.protocol.receiver import PLANTED, ReceiverProcess
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


def test_echo_is_answered(receiver: ReceiverProcess) -> None:
    with Peer(receiver.port, ECHO) as peer:
        assert peer.echo().status == 0x0000
    line = receiver.wait_for("association", outcome="released")
    assert line["calling_ae"] == "TESTER"
    assert line["peer"] == "127.0.0.1"


def test_echo_belongs_on_a_verification_context(receiver: ReceiverProcess) -> None:
    with Peer(receiver.port, [(CT_IMAGE, [IMPLICIT_LE])]) as peer:
        assert peer.echo().status == 0x0122


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
        assert peer.results == {
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


@pytest.mark.parametrize("transfer_syntax", [EXPLICIT_LE, IMPLICIT_LE, EXPLICIT_BE, DEFLATED])
def test_pynetdicom_stores_a_private_class(
    receiver: ReceiverProcess, storage: Path, transfer_syntax: str
) -> None:
    data = Dataset()
    data.SOPClassUID = PRIVATE_CLASS
    data.SOPInstanceUID = transfer_syntax + ".1"
    data.StudyInstanceUID, data.SeriesInstanceUID = "1.2", "1.2.1"
    data.PatientName = PLANTED
    data.ensure_file_meta()
    data.file_meta.TransferSyntaxUID = UID(transfer_syntax)
    entity = AE("PRIVATE")
    entity.add_requested_context(PRIVATE_CLASS, transfer_syntax)
    association = entity.associate("127.0.0.1", receiver.port)
    assert association.is_established
    assert association.send_c_store(data).Status == 0x0000
    association.release()
    assert (storage / "1.2" / "1.2.1" / f"{transfer_syntax}.1.dcm").is_file()


def test_only_listed_classes_are_accepted_where_there_is_a_list(tmp_path: Path) -> None:
    classes = (CT_IMAGE, PRIVATE_CLASS, VERIFICATION)
    listed = ReceiverProcess(STORAGE_DIR=str(tmp_path), SUPPORTED_SOP_CLASS_UIDS=CT_IMAGE)
    with listed as process, Peer(process.port, [(uid, [IMPLICIT_LE]) for uid in classes]) as peer:
        results = {number: result for number, (result, _) in peer.results.items()}
        assert results == {1: 0, 3: 3, 5: 0}


@pytest.fixture
def strict(tmp_path: Path) -> ReceiverProcess:
    return ReceiverProcess(
        STORAGE_DIR=str(tmp_path),
        AE_TITLE="OURS",
        REQUIRE_CALLED_AE_TITLE="true",
        REQUIRE_CALLING_AE_TITLE="CT1,MR1",
    )


def test_unknown_titles_are_rejected_with_their_triples(strict: ReceiverProcess) -> None:
    with strict as process:
        with Peer(process.port, ECHO, "CT1", "OTHER") as peer:
            assert (peer.answer, peer.triple) == (ASSOCIATE_RJ, (1, 1, 7))
        with Peer(process.port, ECHO, "US9", "OURS") as peer:
            assert (peer.answer, peer.triple) == (ASSOCIATE_RJ, (1, 1, 3))
        with Peer(process.port, ECHO, "MR1", "OURS") as peer:
            assert peer.echo().status == 0x0000
        line = process.wait_for("association", outcome="rejected", calling_ae="US9")
        assert line["why"] == "the calling AE title is not in the list"


@pytest.mark.parametrize("title", [b"CT\r\n" + PLANTED.encode(), b"A\\B", b" " * 16, b"\xc4\xff"])
def test_a_malformed_title_does_not_get_in(receiver: ReceiverProcess, title: bytes) -> None:
    with Peer(receiver.port, ECHO, calling=title) as peer:
        assert peer.answer in (ASSOCIATE_RJ, ABORT)
    with Peer(receiver.port, ECHO, called=title) as peer:
        assert peer.answer in (ASSOCIATE_RJ, ABORT)
    with Peer(receiver.port, ECHO) as peer:
        assert peer.echo().status == 0x0000


def test_the_association_limit_is_transient_and_ends(tmp_path: Path) -> None:
    with ReceiverProcess(STORAGE_DIR=str(tmp_path), MAXIMUM_ASSOCIATIONS="2") as process:
        with ExitStack() as stack:
            for _ in range(2):
                peer = stack.enter_context(Peer(process.port, ECHO))
                assert peer.answer == ASSOCIATE_AC
            with Peer(process.port, ECHO, "LATE") as late:
                assert (late.answer, late.triple) == (ASSOCIATE_RJ, (2, 3, 2))
        process.wait_for("association", outcome="released")
        with Peer(process.port, ECHO) as peer:
            assert peer.echo().status == 0x0000


def test_half_open_connections_take_no_place_of_an_association(tmp_path: Path) -> None:
    with (
        ReceiverProcess(STORAGE_DIR=str(tmp_path), MAXIMUM_ASSOCIATIONS="1") as process,
        ExitStack() as stack,
    ):
        for _ in range(3):
            silent = stack.enter_context(socket.create_connection(("127.0.0.1", process.port)))
            silent.sendall(b"\x01\x00\x00\x00")
        with Peer(process.port, ECHO) as peer:
            assert peer.echo().status == 0x0000


def test_a_connection_that_says_nothing_is_closed_and_not_logged(tmp_path: Path) -> None:
    with ReceiverProcess(STORAGE_DIR=str(tmp_path), ARTIM_TIMEOUT="0.5") as process:
        with socket.create_connection(("127.0.0.1", process.port), timeout=10) as silent:
            assert silent.recv(1) == b""
        socket.create_connection(("127.0.0.1", process.port)).close()
        with Peer(process.port, ECHO) as peer:
            assert peer.echo().status == 0x0000
        process.wait_for("association")
    assert [each["event"] for each in process.lines] == [
        "settings",
        "listening",
        "association",
        "stopping",
        "stopped",
    ]


@pytest.mark.parametrize(
    "payload",
    [
        b"GET /" + PLANTED.encode() + b" HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x00\x05hello",
        b"\x01\x00\x00\x00",
        b"\x01\x00\x00\x00\x00\xcc" + bytes(60),
    ],
    ids=["HTTP", "TLS", "half a PDU header", "half a request"],
)
def test_what_is_no_request_is_cut_off_when_artim_expires(tmp_path: Path, payload: bytes) -> None:
    with ReceiverProcess(STORAGE_DIR=str(tmp_path), ARTIM_TIMEOUT="0.5") as process:
        with socket.create_connection(("127.0.0.1", process.port), timeout=10) as stranger:
            stranger.sendall(payload)
            assert ended(stranger)
        with Peer(process.port, ECHO) as peer:
            assert peer.echo().status == 0x0000


def ended(connection: socket.socket) -> bool:
    """Whether the receiver closes, with an A-ABORT before it or without."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := connection.recv(100):
            received += chunk
    return received[:1] in (b"", bytes([ABORT]))
