"""Dead letters on moto's SQS: listed, re-driven, discarded."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError, NoCredentialsError
from chalicelib import aws
from chalicelib.errors import ServiceUnavailable
from chalicelib.operations import dead_letter_walk, setup
from chalicelib.operations import dead_letters as letters
from chalicelib.operations.command_line import run
from chalicelib.operations.dead_letter_walk import Queues
from chalicelib.operations.journal import Discard

from tests.pipeline.chalicelib.conftest import BUCKET
from tests.unit.chalicelib.builders import NOW
from tests.unit.chalicelib.test_trigger import event, record

WHY = "a scanner's probe"
NAME = "DOE^JOHN"


@pytest.fixture
def queues(_aws: None, monkeypatch: pytest.MonkeyPatch) -> Queues:
    # moto answers an empty queue only once the wait is over.
    monkeypatch.setattr(dead_letter_walk, "_WAIT_SECONDS", 0)
    for name in ("dicom-import", "dicom-import-dead-letter"):
        aws.sqs().create_queue(QueueName=name)
    return Queues(aws.sqs(), "dicom-import-dead-letter", "dicom-import", BUCKET)


def url(name: str) -> str:
    return aws.sqs().get_queue_url(QueueName=name)["QueueUrl"]


def send(*bodies: str) -> list[str]:
    dead = url("dicom-import-dead-letter")
    return [aws.sqs().send_message(QueueUrl=dead, MessageBody=each)["MessageId"] for each in bodies]


def waiting(name: str) -> int:
    """How many messages anybody can receive."""
    asked: Any = ["ApproximateNumberOfMessages"]
    answer = aws.sqs().get_queue_attributes(QueueUrl=url(name), AttributeNames=asked)
    return int(answer["Attributes"]["ApproximateNumberOfMessages"])


def counts() -> tuple[int, int]:
    return waiting("dicom-import"), waiting("dicom-import-dead-letter")


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any, str]:
    code = run(arguments)
    said = capsys.readouterr()
    assert NAME not in said.out + said.err
    return code, json.loads(said.out) if said.out else None, said.err


def named(views: list[dict[str, Any]]) -> set[str]:
    return {each["messageId"] for each in views}


@pytest.mark.usefixtures("queues")
def test_a_list_says_what_each_is_and_leaves_it_there(capsys: pytest.CaptureFixture[str]) -> None:
    junk, good = send(NAME, event(record(f"dropbox/{NAME}")))
    code, found, said = command(capsys, "dead-letters")
    assert (code, found["complete"], said) == (0, True, "")
    by_id = {each["messageId"]: each for each in found["messages"]}
    assert by_id[junk]["what"] == "no S3 event: the message is not JSON"
    assert by_id[good]["objects"][0]["kind"] == "dropped object"
    assert {each["receiveCount"] for each in by_id.values()} == {1}
    assert all(each["since"] for each in by_id.values())
    assert counts() == (0, 2)


@pytest.mark.usefixtures("queues")
def test_a_list_that_is_cut_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    send(*map(str, range(25)))
    code, found, said = command(capsys, "dead-letters", "--limit", "12")
    assert (code, len(found["messages"]), found["complete"]) == (0, 12, False)
    assert "greater --limit" in said
    assert counts() == (0, 25)


@pytest.mark.usefixtures("queues")
def test_junk_is_left_by_a_redrive_which_says_how_to_discard_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    send(*[NAME, event(record())] * 15)
    code, report, said = command(capsys, "redrive")
    assert (code, report["movedCount"], report["leftCount"]) == (0, 15, 15)
    assert "discard --junk --reason TEXT" in said
    assert counts() == (15, 15)
    code, report, _ = command(capsys, "redrive")
    assert (report["movedCount"], report["leftCount"]) == (0, 15)


@pytest.mark.usefixtures("queues")
@pytest.mark.parametrize(("limit", "moved"), [(3, 3), (12, 12), (100, 25)])
def test_a_redrive_receives_as_many_as_it_is_asked_to(
    limit: int, moved: int, capsys: pytest.CaptureFixture[str]
) -> None:
    send(*[event(record())] * 25)
    report = command(capsys, "redrive", "--limit", str(limit))[1]
    assert (report["movedCount"], counts()) == (moved, (moved, 25 - moved))


@pytest.mark.usefixtures("queues")
def test_single_messages_are_moved_by_their_ids(capsys: pytest.CaptureFixture[str]) -> None:
    ids = send(*[event(record())] * 12, NAME)
    code, report, said = command(capsys, "redrive", ids[5], "no-such-id")
    assert (code, report["notFound"]) == (1, ["no-such-id"])
    assert [each["messageId"] for each in report["moved"]] == [ids[5]]
    assert "no-such-id" in said
    assert counts() == (1, 12)
    code, report, _ = command(capsys, "redrive", ids[12])
    assert (code, report["movedCount"], named(report["left"])) == (1, 0, {ids[12]})


def test_a_message_that_the_queue_refuses_stays_and_stops_no_other(
    queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = send(*(event(record(f"dropbox/{number}")) for number in range(3)))
    real = queues.client.send_message

    def refuses_one(**asked: Any) -> Any:
        if "dropbox%2F1" in asked["MessageBody"]:
            raise ClientError({"Error": {"Code": "InvalidMessageContents"}}, "SendMessage")
        return real(**asked)

    monkeypatch.setattr(queues.client, "send_message", refuses_one)
    report = letters.redrive(queues, None)
    assert {each["messageId"] for each in report.done} == {ids[0], ids[2]}
    assert report.failed == [{"messageId": ids[1], "why": "SQS: InvalidMessageContents"}]
    assert counts() == (2, 1)


@pytest.mark.usefixtures("queues")
def test_exactly_what_is_named_is_discarded_and_its_reason_stays(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ids = send(NAME, NAME, event(record()), NAME)
    code, report, _ = command(capsys, "discard", ids[0], ids[3], "--reason", WHY)
    assert (code, named(report["discarded"])) == (0, {ids[0], ids[3]})
    assert counts() == (0, 2)
    kept = setup.journal().discarded(ids[0])
    assert kept is not None
    assert (kept.reason, kept.what) == (WHY, "no S3 event: the message is not JSON")
    code, report, _ = command(capsys, "discard", ids[0], "--reason", "again")
    (before,) = report["discardedBefore"]
    assert (code, before["messageId"], before["reason"]) == (0, ids[0], WHY)
    assert command(capsys, "discard", "no-such-id", "--reason", WHY)[0] == 1
    assert command(capsys, "discard", ids[1], "--reason", " ")[0] == 1
    assert counts() == (0, 2)


@pytest.mark.usefixtures("queues")
def test_all_junk_is_discarded_at_once_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    damaged = event(record(), {"eventName": 5})
    ids = send(*[NAME] * 12, event(record()), damaged, '{"Event": "s3:TestEvent"}')
    code, report, _ = command(capsys, "discard", "--junk", "--reason", WHY)
    assert (code, named(report["discarded"])) == (0, set(ids[:12]))
    assert counts() == (0, 3)


@pytest.mark.usefixtures("queues")
def test_an_event_is_discarded_only_by_its_id_and_by_force(
    capsys: pytest.CaptureFixture[str],
) -> None:
    (good,) = send(event(record()))
    code, report, _ = command(capsys, "discard", good, "--reason", WHY)
    assert (code, named(report["left"]), counts()) == (1, {good}, (0, 1))
    assert "--force" in report["left"][0]["why"]
    assert setup.journal().discarded(good) is None
    assert command(capsys, "discard", good, "--force", "--reason", WHY)[0] == 0
    assert counts() == (0, 0)


@pytest.mark.usefixtures("queues")
@pytest.mark.parametrize(
    "body", [event(record(), {"eventName": 5}), json.dumps({"Message": event(record())})]
)
def test_a_damaged_event_is_moved_never_and_discarded_only_by_its_id_and_by_force(
    body: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (damaged,) = send(body)
    code, report, said = command(capsys, "redrive")
    assert (code, report["movedCount"], named(report["left"])) == (0, 0, {damaged})
    assert "--force" in said
    assert "no S3 events" not in said
    code, report, _ = command(capsys, "discard", damaged, "--reason", WHY)
    assert (code, named(report["left"])) == (1, {damaged})
    assert counts() == (0, 1)
    assert command(capsys, "discard", damaged, "--force", "--reason", WHY)[0] == 0
    assert counts() == (0, 0)


@pytest.mark.usefixtures("queues")
def test_a_key_that_is_not_utf8_is_junk_which_breaks_no_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    odd = record()
    odd["s3"]["object"]["key"] = "dropbox/\ud800.dcm"
    forged, other, named_one = send(event(odd), NAME, event(odd))
    _, found, _ = command(capsys, "dead-letters")
    assert {each["junk"] for each in found["messages"]} == {True}
    code, report, _ = command(capsys, "discard", named_one, "--force", "--reason", WHY)
    assert (code, named(report["discarded"])) == (0, {named_one})
    code, report, _ = command(capsys, "discard", "--junk", "--reason", WHY)
    assert (code, named(report["discarded"])) == (0, {forged, other})


@pytest.mark.usefixtures("queues")
@pytest.mark.parametrize("asked", [("dead-letters",), ("redrive",), ("redrive", "no-such-id")])
def test_messages_that_another_command_hides_are_counted(
    asked: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    send(*[NAME] * 3)
    aws.sqs().receive_message(
        QueueUrl=url("dicom-import-dead-letter"), MaxNumberOfMessages=2, VisibilityTimeout=600
    )
    _, found, said = command(capsys, *asked)
    assert (found["complete"], found["hiddenCount"]) == (False, 2)
    assert "2 more are hidden by another command; ask again in ten minutes" in said
    assert counts() == (0, 1)


REFUSED: Any = {"Error": {"Code": "AccessDenied", "Message": "no"}}


def fails_at(name: str, queues: Queues, patch: pytest.MonkeyPatch, fault: BaseException) -> None:
    def fails(**_: Any) -> None:
        raise fault

    patch.setattr(queues.client, name, fails)


@pytest.mark.parametrize(
    "fault",
    [ClientError(REFUSED, "ChangeMessageVisibilityBatch"), ServiceUnavailable("away"),
     KeyboardInterrupt()],
)  # fmt: skip
def test_what_cannot_be_given_back_costs_no_report(
    queues: Queues,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fault: BaseException,
) -> None:
    send(NAME, *[event(record())] * 3)
    fails_at("change_message_visibility_batch", queues, monkeypatch, fault)
    code, report, said = command(capsys, "redrive")
    assert (code, report["movedCount"], report["leftCount"]) == (0, 3, 1)
    assert "dead_letters_stay_hidden" in said


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (ServiceUnavailable("SQS is away"), "SQS is away"),
        (ClientError(REFUSED, "ReceiveMessage"), "AWS refuses ReceiveMessage: AccessDenied: no"),
        (NoCredentialsError(), "Unable to locate credentials"),
        (KeyboardInterrupt(), "interrupted"),
    ],
)
@pytest.mark.parametrize(
    ("asked", "verb"),
    [(("dead-letters",), "messages"), (("redrive",), "moved"),
     (("discard", "--junk", "--reason", WHY), "discarded")],
)  # fmt: skip
def test_a_walk_that_fails_says_what_was_done_and_gives_the_rest_back(
    queues: Queues,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    asked: tuple[str, ...],
    verb: str,
    fault: BaseException,
    why: str,
) -> None:
    send(*[NAME, event(record())] * 10)
    real, pages = queues.client.receive_message, iter(range(10))

    def receive(**given: Any) -> Any:
        if next(pages):
            raise fault
        return real(**given)

    monkeypatch.setattr(queues.client, "receive_message", receive)
    code, report, said = command(capsys, *asked)
    done = len(report[verb])
    assert (code, report["stopped"], report["complete"]) == (1, why, False)
    assert done in (5, 10)
    assert "run the same command again" in said
    assert sum(counts()) == (15 if verb == "discarded" else 20)


def test_what_sqs_does_not_delete_is_not_moved(
    queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = send(*[event(record())] * 3)
    real = queues.client.delete_message_batch

    def deletes_one(**asked: Any) -> Any:
        answer = real(QueueUrl=asked["QueueUrl"], Entries=asked["Entries"][:1])
        failed = [{"Id": each["Id"], "Code": "InternalError"} for each in asked["Entries"][1:]]
        return {"Successful": answer["Successful"], "Failed": failed}

    monkeypatch.setattr(queues.client, "delete_message_batch", deletes_one)
    report = letters.redrive(queues, None)
    assert len(report.done) == 1
    (moved,) = [each["messageId"] for each in report.done]
    assert {each["messageId"] for each in report.failed} == set(ids) - {moved}
    assert {each["why"] for each in report.failed} == {
        "sent again, but not deleted here; it will be listed again"
    }
    assert not report.is_good
    assert counts() == (3, 2)


@pytest.mark.parametrize("body", [NAME, event(record())])
def test_a_refused_deletion_ends_the_walk_and_each_message_is_said(
    queues: Queues, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    ids = send(body, body)
    fails_at(
        "delete_message_batch", queues, monkeypatch, ClientError(REFUSED, "DeleteMessageBatch")
    )
    report = (
        letters.discard(queues, None, WHY, setup.journal())
        if body == NAME
        else letters.redrive(queues, None)
    )
    assert {each["messageId"] for each in report.failed} == set(ids)
    assert (report.done, report.stopped) == (
        [],
        "AWS refuses DeleteMessageBatch: AccessDenied: no",
    )
    assert waiting("dicom-import-dead-letter") == 2


def test_a_walk_ends_before_its_first_message_comes_again(
    queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = send(*[NAME] * 25)
    times = iter(range(0, 10_000, 200))
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    report = letters.discard(queues, {"none"}, WHY, setup.journal())
    assert not report.is_complete
    monkeypatch.undo()
    assert len(ids) == waiting("dicom-import-dead-letter")


@pytest.mark.usefixtures("_aws")
def test_the_first_reason_for_a_message_stays() -> None:
    journal = setup.journal()
    first = Discard("id", "no S3 event", WHY, NOW)
    journal.note_discard(first)
    journal.note_discard(Discard("id", "no S3 event", "another", NOW))
    assert journal.discarded("id") == first
    assert journal.discarded("other") is None
