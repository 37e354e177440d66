"""What peers write into titles, names and UIDs reaches no line (docs/faults.md)."""

import pytest

from tests.protocol.peer import Peer, Wire
from tests.protocol.receiver import PLANTED_EVERYWHERE, ReceiverProcess
from tests.protocol.wire import (
    ASSOCIATE_RQ,
    COMMAND,
    LAST,
    P_DATA,
    VERIFICATION,
    data_pdus,
    pdu,
    pdv,
    store_request,
)
from tests.unit.store_scp.builders import (
    CT_IMAGE,
    EXPLICIT_LE,
    SERIES,
    SOP_CLASS,
    SOP_INSTANCE,
    STUDY,
    data_set,
    element,
)

# Text that a log must never show, one that would be a line of its own, and one that is a UID.
NAME, FORGED_TITLE, UID = PLANTED_EVERYWHERE
FORGED = f'x\r\n{{"event": "association", "outcome": "released", "calling_ae": "{FORGED_TITLE}"}}'
CONTEXTS = [(CT_IMAGE, [EXPLICIT_LE]), (VERIFICATION, [EXPLICIT_LE])]


def everywhere(process: ReceiverProcess, text: str) -> None:
    """Plant a text wherever a peer can write one."""
    # A title of printable characters is a title, and logged.
    title = f"\r\n{text}"[:16]
    for calling, called in ((title, "STORESCP"), ("TESTER", title)):
        assert Peer(process.port, CONTEXTS, calling, called).rejected()[:2] == (1, 1)
    for broken in (text.encode(), pdu(ASSOCIATE_RQ, text.encode() * 9), pdu(0x77, text.encode())):
        with Wire(process.port) as wire:
            wire.send(broken.ljust(10, b" "))
            wire.abort_source()
    with Peer(process.port, [*CONTEXTS, (text, [text]), (CT_IMAGE, [text])]) as peer:
        in_messages(peer, text)
    for garbage in (pdu(P_DATA, pdv(text.encode(), 1, COMMAND | LAST)), pdu(P_DATA, text.encode())):
        with Peer(process.port, CONTEXTS) as peer:
            peer.wire.send(garbage)
            peer.aborted_by()
    with Peer(process.port, CONTEXTS) as peer:
        peer.wire.send(store_request(text, text) + data_pdus(text.encode(), 5))
        peer.aborted_by()


def in_messages(peer: Peer, text: str) -> None:
    good = data_set()
    at = good.index(element(STUDY, b"UI", b"")[:4])
    patient = element((0x0010, 0x0010), b"PN", text.encode())
    named = good[:at] + patient + good[at:]
    assert peer.store(named, CT_IMAGE, "1.2.3.4").status == 0x0000
    peer.store(good, CT_IMAGE, text)
    peer.store(good, text, "1.2.3.4")
    peer.store(text.encode(), CT_IMAGE, "1.2.3.4")
    for tag in (SOP_CLASS, SOP_INSTANCE, STUDY, SERIES):
        peer.store(data_set(replaced={tag: text.encode()}), CT_IMAGE, "1.2.3.4")
    peer.store(data_set(replaced={SOP_INSTANCE: text.encode()}), CT_IMAGE, text)


@pytest.mark.fault("planted-text")
@pytest.mark.parametrize("text", [NAME, FORGED, UID], ids=["a name", "a line", "a UID"])
def test_planted_text_reaches_no_line_at_debug(storing: ReceiverProcess, text: str) -> None:
    everywhere(storing, text)
    storing.wait_for("store_refused", status="0122H")
    metrics = str(storing.metrics())
    # Once more at the receiver's end, when every line has come.
    log = "".join(storing.raw)
    assert not [each for each in PLANTED_EVERYWHERE if each in log or each in metrics]
