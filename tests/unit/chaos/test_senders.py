import random
import threading
from collections import Counter
from collections.abc import Sequence

import pytest

from tests.chaos import senders
from tests.chaos.ledger import Answer, Ledger, Sent
from tests.chaos.senders import Sender, answers_in_log
from tests.chaos.studies import Image

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


def test_a_sender_sends_again_what_was_acknowledged_long_ago(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(senders, "_PAUSES", (0.0, 0.0))
    stop, sent = threading.Event(), list[str]()

    def store(calling: str, port: int, images: Sequence[Image]) -> dict[str, Answer]:
        del calling, port
        assert all(image.path.exists() for image in images)
        sent.append(images[0].sop_instance_uid)
        if len(sent) == 60:
            stop.set()
        return {image.sop_instance_uid: Answer.ACKNOWLEDGED for image in images}

    sender = Sender("SCU1", store, lambda: [1], Ledger(), random.Random(3), stop)  # noqa: S311
    sender.run()
    apart = Counter[str]()
    for number, uid in enumerate(sent):
        if uid in sent[: max(0, number - 2)] and uid not in sent[max(0, number - 2) : number]:
            apart[uid] += 1
    assert apart.total() > 3
    assert len(sender.archive) == senders._ARCHIVED
