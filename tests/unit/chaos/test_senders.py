import random
import threading
from collections import Counter
from collections.abc import Sequence

import pytest

from contract.checksums import Checksum
from tests.chaos import senders
from tests.chaos.contents import Content, Variant
from tests.chaos.ledger import Answer, Ledger, Sent
from tests.chaos.senders import Sender, answers_in_log, drawn_variant
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


def test_the_ledger_adds_up_the_answers_to_each_content_of_each_instance() -> None:
    ledger = Ledger()
    one, other = (Content("1", Checksum.of(body)) for body in (b"one", b"other"))
    second = Content("2", one.digest)
    for content, answer in (
        (one, Answer.NONE),
        (one, Answer.ACKNOWLEDGED),
        (one, Answer.ACKNOWLEDGED),
        (second, Answer.REFUSED),
    ):
        ledger.record(content, answer)
    ledger.record(other, Answer.ACKNOWLEDGED, Variant.FORGED)
    assert ledger.sent() == {one: Sent(2, 0, 1), second: Sent(0, 1), other: Sent(1)}
    assert ledger.count(Answer.ACKNOWLEDGED) == 3
    kept = {variant: contents for variant, contents in ledger.kept().items() if contents}
    assert kept == {Variant.ORIGINAL: [one], Variant.FORGED: [other]}


def test_every_variant_is_drawn_and_most_studies_have_none() -> None:
    chance = random.Random(1)  # noqa: S311
    drawn = Counter(drawn_variant(chance) for _ in range(1_000))
    assert drawn.keys() == {None, *Variant} - {Variant.ORIGINAL}
    assert drawn[None] > 400
    assert min(drawn.values()) >= 50


def test_a_sender_sends_again_what_was_acknowledged_long_ago(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(senders, "_PAUSES", (0.0, 0.0))
    stop, sent = threading.Event(), list[Image]()

    def store(calling: str, port: int, images: Sequence[Image]) -> dict[Image, Answer]:
        del calling, port
        assert all(image.path.exists() for image in images)
        sent.append(images[0])
        if len(sent) == 60:
            stop.set()
        return dict.fromkeys(images, Answer.ACKNOWLEDGED)

    sender = Sender("SCU1", store, lambda: [1], Ledger(), random.Random(3), stop)  # noqa: S311
    sender.run()
    apart = Counter[Image]()
    for number, image in enumerate(sent):
        if image in sent[: max(0, number - 2)] and image not in sent[max(0, number - 2) : number]:
            apart[image] += 1
    assert apart.total() > 3
    assert len(sender.archive) == senders._ARCHIVED
