from tests.chaos.ledger import Answer, Ledger, Sent
from tests.chaos.senders import answers_in_log

LOG = """I: Requesting Association
I: Association Accepted (Max Send PDV: 131060)
I: Sending file: /a.dcm
I: Converting transfer syntax: Little Endian Explicit -> Little Endian Explicit
I: Sending Store Request (MsgID 1, CT)
XMIT: .
I: Received Store Response (Success)
I: Sending file: /b.dcm
I: Sending Store Request (MsgID 2, CT)
I: Received Store Response (Refused: OutOfResources)
I: Sending file: /c.dcm
I: Sending Store Request (MsgID 3, CT)
E: Store Failed, file: /c.dcm:
I: Sending file: /d.dcm
E: No presentation context
"""


def test_storescus_log_tells_of_each_request_that_was_sent() -> None:
    files = {f"/{name}.dcm": name for name in "abcde"}
    assert answers_in_log(LOG, files) == {
        "a": Answer.ACKNOWLEDGED,
        "b": Answer.REFUSED,
        "c": Answer.NONE,
    }


def test_the_ledger_adds_up_the_answers_to_each_instance() -> None:
    ledger = Ledger()
    for uid, answer in (
        ("1", Answer.NONE),
        ("1", Answer.ACKNOWLEDGED),
        ("1", Answer.ACKNOWLEDGED),
        ("2", Answer.REFUSED),
    ):
        ledger.record(uid, answer)
    ledger.record("2", Answer.ACKNOWLEDGED, version=1)
    assert ledger.sent() == {"1": Sent(2, 0, 1, kept=1), "2": Sent(1, 1, 0, versions=2, kept=1)}
    assert ledger.count(Answer.ACKNOWLEDGED) == 3
