"""faults.md rows 14 to 19 as a peer sees them: the status, nothing stored, and life goes on."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.protocol.peer import ABORT, NO_DATA_SET, VERIFICATION, Peer
from tests.protocol.receiver import PLANTED, ReceiverProcess
from tests.unit.store_scp.builders import (
    CT_IMAGE,
    DEFLATED,
    EXPLICIT_LE,
    SERIES,
    SOP_CLASS,
    SOP_INSTANCE,
    STUDY,
    data_set,
    element,
)

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
PATIENT = element((0x0010, 0x0010), b"PN", PLANTED.encode())
HOSTILE = ["../../etc", "1.2\n3", "1" * 65, "", ";$(touch x)", PLANTED, "1.2\r\nroot: " + PLANTED]


def with_patient(encoded: bytes) -> bytes:
    """The data set with the planted name where a patient's name stands."""
    at = encoded.index(element(STUDY, b"UI", b"")[:4])
    return encoded[:at] + PATIENT + encoded[at:]


GOOD = with_patient(data_set())


@dataclass(frozen=True)
class Bad:
    """One bad request and the status it has to get."""

    status: int
    data: bytes | None = GOOD
    sop_class: str = CT_IMAGE
    sop_instance: str | None = "1.2.3.4"
    context_id: int = 1


CASES = {
    "not DICOM": Bad(0xC002, b"GET / HTTP/1.1\r\nHost: " + PLANTED.encode()),
    "truncated": Bad(0xC000, GOOD[:55]),
    "a Part 10 file": Bad(0xC002, bytes(128) + b"DICM" + GOOD),
    "no data set": Bad(0xC001, None),
    "empty data set": Bad(0xC001, b""),
    "no SOP class": Bad(0xC002, data_set(without=SOP_CLASS)),
    "no SOP instance UID": Bad(0xC003, data_set(without=SOP_INSTANCE)),
    "no study": Bad(0xC004, data_set(without=STUDY)),
    "no series": Bad(0xC005, data_set(without=SERIES)),
    "no instance UID in the command": Bad(0x0117, sop_instance=None),
    "other instance in the command": Bad(0xA900, sop_instance="1.2.3.5"),
    "other class in the data set": Bad(0xA900, sop_class=MR_IMAGE, context_id=5),
    "class is not the context's": Bad(0x0122, sop_class=MR_IMAGE),
    "a context for verification": Bad(0x0122, context_id=3),
    "verification stored": Bad(0x0122, sop_class=VERIFICATION, context_id=3),
    "not deflated": Bad(0xC007, b"\xff" * 50, context_id=7),
}


def propose(process: ReceiverProcess, calling: str = "TESTER") -> Peer:
    contexts = [
        (CT_IMAGE, [EXPLICIT_LE]),
        (VERIFICATION, [EXPLICIT_LE]),
        (MR_IMAGE, [EXPLICIT_LE]),
        (CT_IMAGE, [DEFLATED]),
    ]
    return Peer(process.port, contexts, calling)


def files(storage: Path) -> list[Path]:
    return [each for each in storage.rglob("*") if each.is_file()]


def assert_only_the_good_one_is_stored(process: ReceiverProcess, storage: Path) -> None:
    """After each case: a good C-STORE works at once, and it alone is in the sink."""
    with propose(process) as peer:
        assert peer.store(GOOD, CT_IMAGE, "1.2.3.4").status == 0x0000
    (stored,) = files(storage)
    assert stored.relative_to(storage) == Path("1.2.3/1.2.3.3/1.2.3.4.dcm")
    assert stored.read_bytes().endswith(GOOD)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_bad_request_gets_its_status(receiver: ReceiverProcess, storage: Path, case: Bad) -> None:
    with propose(receiver) as peer:
        response = peer.store(case.data, case.sop_class, case.sop_instance, case.context_id)
        assert response.status == case.status
        assert 0 < len(response.comment) <= 64
        again = peer.store(GOOD, CT_IMAGE, "1.2.3.4")
        assert again.status == 0x0000
    assert_only_the_good_one_is_stored(receiver, storage)


@pytest.mark.parametrize("uid", HOSTILE)
def test_a_hostile_uid_in_the_command_is_0117(
    receiver: ReceiverProcess, storage: Path, uid: str
) -> None:
    with propose(receiver) as peer:
        response = peer.store(GOOD, CT_IMAGE, uid)
        assert response.status == 0x0117
        assert 0x1000 not in response.elements  # and is not sent back
    assert_only_the_good_one_is_stored(receiver, storage)


@pytest.mark.parametrize("uid", HOSTILE)
def test_a_hostile_class_in_the_command_is_0122(
    receiver: ReceiverProcess, storage: Path, uid: str
) -> None:
    with propose(receiver) as peer:
        assert peer.store(GOOD, uid, "1.2.3.4").status == 0x0122
    assert_only_the_good_one_is_stored(receiver, storage)


@pytest.mark.parametrize("uid", HOSTILE)
@pytest.mark.parametrize(
    ("tag", "status"),
    [(SOP_CLASS, 0xC002), (SOP_INSTANCE, 0xC003), (STUDY, 0xC004), (SERIES, 0xC005)],
)
def test_a_hostile_uid_in_the_data_set_cannot_be_understood(
    receiver: ReceiverProcess, storage: Path, uid: str, tag: tuple[int, int], status: int
) -> None:
    with propose(receiver) as peer:
        encoded = data_set(replaced={tag: uid.encode()})
        assert peer.store(encoded, CT_IMAGE, "1.2.3.4").status == status
    assert_only_the_good_one_is_stored(receiver, storage)


def test_a_refusal_is_logged_without_what_the_peer_wrote(receiver: ReceiverProcess) -> None:
    with propose(receiver) as peer:
        peer.store(GOOD, CT_IMAGE, "1.2.3.99")
    line = receiver.wait_for("store_refused", status="A900H", sop_instance="047ad3e497a6")
    assert "1.2.3.99" not in str(line)
    receiver.wait_for("association", association_id=line["association_id"], refused=1, stored=0)


def test_an_instance_over_the_cap_is_out_of_resources(tmp_path: Path) -> None:
    small = ReceiverProcess(STORAGE_DIR=str(tmp_path), MAX_INSTANCE_BYTES="1000")
    with small as process, propose(process) as peer:
        large = data_set(pixels=bytes(1_000))
        assert peer.store(large, CT_IMAGE, "1.2.3.4").status == 0xA700
        assert files(tmp_path) == []
        assert peer.store(GOOD, CT_IMAGE, "1.2.3.4").status == 0x0000


def test_a_message_on_a_context_that_was_not_accepted_aborts(
    receiver: ReceiverProcess, storage: Path
) -> None:
    with propose(receiver) as peer:
        peer.send_store(GOOD, CT_IMAGE, "1.2.3.4", context_id=99)
        assert peer.closed_with()[0] == ABORT
    assert_only_the_good_one_is_stored(receiver, storage)


C_FIND_RQ = (0x0020, 0x0110)
C_STORE_RSP = (0x8001, 0x0120)
UNKNOWN = (0x7777, 0x0110)


@pytest.mark.parametrize(("field", "message_id"), [C_FIND_RQ, C_STORE_RSP, UNKNOWN])
def test_a_command_that_is_no_service_of_ours_ends_the_association(
    receiver: ReceiverProcess, storage: Path, field: int, message_id: int
) -> None:
    elements = [(0x0100, field), (message_id, 1), (0x0800, NO_DATA_SET)]
    with propose(receiver) as peer:
        peer.send_command([(tag, value.to_bytes(2, "little")) for tag, value in elements], 1)
        assert peer.closed_with()[0] in (ABORT, 0)
    assert_only_the_good_one_is_stored(receiver, storage)


def test_a_peer_that_vanishes_in_a_data_set_leaves_nothing(
    receiver: ReceiverProcess, storage: Path
) -> None:
    with propose(receiver, calling="VANISHER") as peer:
        peer.start_store(CT_IMAGE, "1.2.3.77", 1)
        peer.send_data(GOOD, 1, last=False)
        peer.vanish()
    receiver.wait_for("association", outcome="aborted", stored=0, refused=0, calling_ae="VANISHER")
    assert_only_the_good_one_is_stored(receiver, storage)
