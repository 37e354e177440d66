"""The Asynchronous Operations Window (PS3.7 D.3.3.3): C-STOREs at once in one association."""

import pytest

from tests.protocol.fake_s3 import FakeS3
from tests.protocol.peer import Peer
from tests.protocol.receiver import ReceiverProcess
from tests.protocol.vitals import CT, until
from tests.unit.store_scp.builders import CT_IMAGE, SOP_INSTANCE, data_set


def numbered(number: int) -> tuple[bytes, str]:
    uid = f"1.2.3.10{number}"
    return data_set(replaced={SOP_INSTANCE: uid.encode()}), uid


def send(peer: Peer, number: int) -> None:
    data, uid = numbered(number)
    peer.send_store(data, CT_IMAGE, uid, message_id=number)


@pytest.mark.parametrize(
    ("proposed", "granted"),
    [((4, 1), (4, 1)), ((4, 4), (4, 1)), ((1, 1), (1, 1)), ((100, 0), (8, 1)), ((0, 0), (8, 1))],
)
def test_a_window_is_granted_up_to_our_own(
    receiver: ReceiverProcess, proposed: tuple[int, int], granted: tuple[int, int]
) -> None:
    with Peer(receiver.port, CT, operations=proposed) as peer:
        assert peer.accepted.operations == granted


def test_who_proposes_no_window_is_answered_none(receiver: ReceiverProcess) -> None:
    with Peer(receiver.port, CT) as peer:
        assert peer.accepted.operations is None


def test_responses_come_as_the_puts_end(s3_receiver: ReceiverProcess, shared_s3: FakeS3) -> None:
    with Peer(s3_receiver.port, CT, operations=(4, 1)) as peer:
        with shared_s3.hold("1.2.3.101.dcm") as held:
            for number in (1, 2, 3, 4):
                send(peer, number)
            shared_s3.wait_for_held(held, 1)
            responses = [peer.response() for _ in range(3)]
            assert sorted(each.message_id for each in responses) == [2, 3, 4]
        responses.append(peer.response())
        assert responses[-1].message_id == 1
        assert {each.status for each in responses} == {0x0000}
        stored = {each.elements[0x1000].rstrip(b"\0").decode() for each in responses}
        assert stored == {numbered(number)[1] for number in (1, 2, 3, 4)}


def test_without_a_window_the_next_request_waits_for_the_answer(
    s3_receiver: ReceiverProcess, shared_s3: FakeS3
) -> None:
    with Peer(s3_receiver.port, CT) as peer:
        with shared_s3.hold("1.2.3.1011.dcm") as held:
            send(peer, 11)
            shared_s3.wait_for_held(held, 1)
            send(peer, 12)
            assert s3_receiver.metrics()["waiting_operations"] == 1
            assert not shared_s3.keys("1.2.3.1012")
        assert [peer.response().message_id for _ in range(2)] == [11, 12]


def test_a_release_is_answered_after_everything_else(
    s3_receiver: ReceiverProcess, shared_s3: FakeS3
) -> None:
    with Peer(s3_receiver.port, CT, operations=(4, 1)) as peer:
        with shared_s3.hold("1.2.3.102") as held:
            for number in (21, 22):
                send(peer, number)
            shared_s3.wait_for_held(held, 2)
            peer.ask_release()
        assert {peer.response().message_id for _ in range(2)} == {21, 22}
        peer.read_release()
        peer.vanish()


def test_what_was_complete_when_its_peer_went_is_still_stored(
    s3_receiver: ReceiverProcess, shared_s3: FakeS3
) -> None:
    with shared_s3.hold("1.2.3.103") as held:
        with Peer(s3_receiver.port, CT, "LEAVER", operations=(4, 1)) as peer:
            for number in (31, 32):
                send(peer, number)
            shared_s3.wait_for_held(held, 2)
            peer.vanish()
        until(lambda: not s3_receiver.metrics()["open_connections"], "it is still there")
    s3_receiver.wait_for("association", calling_ae="LEAVER", outcome="aborted", stored=2)
    for number in (31, 32):
        data, uid = numbered(number)
        (key,) = shared_s3.keys(f"{uid}.dcm")
        assert shared_s3.objects[key].endswith(data)
