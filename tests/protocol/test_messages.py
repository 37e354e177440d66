"""Messages that break PS3.7 or PS3.4 (docs/faults.md)."""

from dataclasses import dataclass

import pytest

from tests.protocol.peer import SERVICE_PROVIDER, Peer
from tests.protocol.receiver import PLANTED, ReceiverProcess
from tests.protocol.vitals import GOOD
from tests.protocol.wire import (
    COMMAND,
    LAST,
    NO_DATA_SET,
    P_DATA,
    VERIFICATION,
    command,
    data_pdus,
    pdu,
    pdv,
    store_request,
    us,
)
from tests.unit.store_scp.builders import (
    CT_IMAGE,
    EXPLICIT_LE,
    SERIES,
    SOP_CLASS,
    SOP_INSTANCE,
    STUDY,
    data_set,
)

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
CONTEXTS = [
    (CT_IMAGE, [EXPLICIT_LE]),
    (VERIFICATION, [EXPLICIT_LE]),
    (MR_IMAGE, [EXPLICIT_LE]),
]
HOSTILE = [
    "../../etc",
    "1.2\n3",
    "1" * 65,
    "",
    ";$(touch x)",
    "1.2.%2e%2e",
    PLANTED,
    "1.2\r\nroot: " + PLANTED,
]
STORE = store_request(CT_IMAGE, "1.2.3.4")
COMMAND_SET = STORE[12:]


def propose(receiver: ReceiverProcess, calling: str = "TESTER") -> Peer:
    return Peer(receiver.port, CONTEXTS, calling)


BROKEN = {
    "a context that was not accepted": store_request(CT_IMAGE, "1.2.3.4", 99),
    "a context that changes in a message": STORE + data_pdus(GOOD, 5),
    "a data set without a command": data_pdus(GOOD),
    "a command in the place of a data set": STORE + STORE,
    "a value longer than its PDU": pdu(P_DATA, pdv(COMMAND_SET, 1, 3, length=9_999)),
    "a value shorter than its own header": pdu(P_DATA, pdv(b"", 1, 3, length=1)),
    "a value of no length at all": pdu(P_DATA, pdv(b"", 1, 3, length=0)),
    "a PDU that ends in a header": pdu(P_DATA, pdv(COMMAND_SET, 1, 3) + bytes(3)),
    "a PDU without a value": pdu(P_DATA, b""),
    "garbage for a command set": pdu(P_DATA, pdv(b"\xff" * 300, 1, COMMAND | LAST)),
    "an empty command set": pdu(P_DATA, pdv(b"", 1, COMMAND | LAST)),
    "a command set that is cut off": pdu(P_DATA, pdv(COMMAND_SET[:-3], 1, COMMAND | LAST)),
    "a command set without end": pdu(P_DATA, pdv(bytes(100_000), 1, COMMAND)),
    "no message id": command([(0x0100, us(1)), (0x0800, us(1))]),
    "C-FIND-RQ": command([(0x0100, us(0x0020)), (0x0110, us(1)), (0x0800, us(NO_DATA_SET))]),
    "C-STORE-RSP": command([(0x0100, us(0x8001)), (0x0120, us(1)), (0x0800, us(NO_DATA_SET))]),
    "an unknown operation": command(
        [(0x0100, us(0x7777)), (0x0110, us(1)), (0x0800, us(NO_DATA_SET))]
    ),
    "C-ECHO with a data set": command([(0x0100, us(0x0030)), (0x0110, us(1)), (0x0800, us(0))]),
}


@pytest.mark.fault("unusable-command")
@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
def test_what_is_no_message_of_ours_ends_the_association(
    receiver: ReceiverProcess, broken: bytes
) -> None:
    ended = receiver.metrics()["associations_total{outcome=failed}"]
    with propose(receiver) as peer:
        peer.wire.send(broken)
        assert peer.aborted_by() == SERVICE_PROVIDER
    assert receiver.metrics()["associations_total{outcome=failed}"] == ended + 1


@dataclass(frozen=True)
class Bad:
    """One bad request and the status it has to get."""

    status: int
    data: bytes | None = GOOD
    sop_class: str = CT_IMAGE
    sop_instance: str | None = "1.2.3.4"
    context_id: int = 1


OF_ANOTHER_CONTEXT = {
    "class is not the context's": Bad(0x0122, sop_class=MR_IMAGE),
    "on a context for verification": Bad(0x0122, context_id=3),
    "verification stored": Bad(0x0122, sop_class=VERIFICATION, context_id=3),
}
NOT_OF_THE_DATA_SET = {
    "another instance in the data set": Bad(0xA900, sop_instance="1.2.3.5"),
    "another class in the data set": Bad(0xA900, sop_class=MR_IMAGE, context_id=5),
}


@pytest.mark.fault("class-of-another-context")
@pytest.mark.parametrize("case", OF_ANOTHER_CONTEXT.values(), ids=OF_ANOTHER_CONTEXT.keys())
def test_a_class_of_another_context_is_refused_and_the_association_goes_on(
    receiver: ReceiverProcess, case: Bad
) -> None:
    assert_refused(receiver, case)


@pytest.mark.fault("command-contradicts-data-set")
@pytest.mark.parametrize("case", NOT_OF_THE_DATA_SET.values(), ids=NOT_OF_THE_DATA_SET.keys())
def test_a_command_that_contradicts_its_data_set_is_refused_and_the_association_goes_on(
    receiver: ReceiverProcess, case: Bad
) -> None:
    assert_refused(receiver, case)


def assert_refused(receiver: ReceiverProcess, case: Bad) -> None:
    with propose(receiver) as peer:
        response = peer.store(case.data, case.sop_class, case.sop_instance, case.context_id)
        assert response.status == case.status
        assert 0 < len(response.comment) <= 64
        assert peer.store(GOOD, CT_IMAGE, "1.2.3.4").status == 0x0000


@pytest.mark.fault("hostile-uid")
@pytest.mark.parametrize("uid", [*HOSTILE, None])
def test_a_hostile_instance_in_the_command_is_0117_and_not_sent_back(
    receiver: ReceiverProcess, uid: str | None
) -> None:
    with propose(receiver) as peer:
        response = peer.store(GOOD, CT_IMAGE, uid)
        assert response.status == 0x0117
        assert 0x1000 not in response.elements


@pytest.mark.fault("hostile-uid")
@pytest.mark.parametrize("uid", HOSTILE)
def test_a_hostile_class_in_the_command_is_0122_and_not_sent_back(
    receiver: ReceiverProcess, uid: str
) -> None:
    with propose(receiver) as peer:
        response = peer.store(GOOD, uid, "1.2.3.4")
        assert response.status == 0x0122
        assert 0x0002 not in response.elements


@pytest.mark.fault("hostile-uid")
@pytest.mark.parametrize(
    ("tag", "status"),
    [(SOP_CLASS, 0xC002), (SOP_INSTANCE, 0xC003), (STUDY, 0xC004), (SERIES, 0xC005)],
)
def test_a_hostile_uid_in_the_data_set_cannot_be_understood(
    receiver: ReceiverProcess, tag: tuple[int, int], status: int
) -> None:
    with propose(receiver) as peer:
        for uid in HOSTILE:
            encoded = data_set(replaced={tag: uid.encode()})
            assert peer.store(encoded, CT_IMAGE, "1.2.3.4").status == status, uid


@pytest.mark.fault("hostile-uid")
def test_no_key_path_or_line_contains_a_hostile_uid(receiver: ReceiverProcess) -> None:
    with propose(receiver, "HOSTILE") as peer:
        for uid in HOSTILE:
            peer.store(GOOD, CT_IMAGE, uid)
    receiver.wait_for("association", calling_ae="HOSTILE", refused=len(HOSTILE), stored=0)
    written = "".join(receiver.raw) + str(sorted(receiver.storage.rglob("*")))
    assert not [uid for uid in HOSTILE if uid and (uid in written or repr(uid)[1:-1] in written)]


def test_a_refusal_is_logged_by_a_digest(receiver: ReceiverProcess) -> None:
    with propose(receiver) as peer:
        peer.store(GOOD, CT_IMAGE, "1.2.3.99")
    line = receiver.wait_for("store_refused", status="A900H", sop_instance="047ad3e497a6")
    assert "1.2.3.99" not in str(line)
    receiver.wait_for("association", association_id=line["association_id"], refused=1, stored=0)
