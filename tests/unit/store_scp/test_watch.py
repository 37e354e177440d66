import pytest
from store_scp.watch import MESSAGE_BYTES, Overdue, Progress, Timeouts, Watch

TIMEOUTS = Timeouts(artim=30, pdu=60, message=120, network=90)


def established() -> Watch:
    watch = Watch(TIMEOUTS, 0)
    watch.stop_artim()
    return watch


def in_pdu(pdus: int) -> Progress:
    return Progress(pdus=pdus, in_pdu=True)


def in_message(messages: int, payload: int) -> Progress:
    """Between two PDUs of a message."""
    return Progress(pdus=payload, messages=messages, in_message=True, payload=payload)


def test_artim_runs_until_the_association_stands_whatever_is_sent() -> None:
    watch = Watch(TIMEOUTS, 0)
    watch.received(29, in_pdu(1))
    assert watch.check(30, peer_waits=False) is None
    assert watch.check(30.1, peer_waits=False) is Overdue.ARTIM
    watch.stop_artim()
    assert watch.check(31, peer_waits=False) is None


def test_one_pdu_has_a_deadline_however_busy_the_peer_is() -> None:
    watch = established()
    for second in range(61):
        watch.received(second, in_pdu(2))
        assert watch.check(second, peer_waits=False) is None
    assert watch.check(60.5, peer_waits=False) is Overdue.PDU


def test_each_pdu_has_its_own_deadline() -> None:
    watch = established()
    for second in range(300):
        watch.received(second, in_pdu(second))
    assert watch.check(300, peer_waits=False) is None
    watch.received(301, Progress(pdus=300))
    assert watch.check(390, peer_waits=False) is None
    assert watch.check(391.1, peer_waits=False) is Overdue.NETWORK


def test_a_message_that_makes_little_progress_has_a_deadline_however_busy_the_peer_is() -> None:
    watch = established()
    for second in range(0, 121, 3):
        watch.received(second, in_message(1, payload=2 * second))
        assert watch.check(second, peer_waits=False) is None
    assert watch.check(120.5, peer_waits=False) is Overdue.MESSAGE


def test_fragments_without_bytes_are_no_progress() -> None:
    watch = established()
    for second in range(121):
        watch.received(second, Progress(pdus=second, messages=1, in_message=True, payload=500))
    assert watch.check(120.5, peer_waits=False) is Overdue.MESSAGE


def test_a_slow_message_may_take_any_time() -> None:
    watch = established()
    for step in range(1, 100):
        watch.received(step * 80, in_message(1, payload=step * MESSAGE_BYTES))
        assert watch.check(step * 80, peer_waits=False) is None


def test_each_message_has_its_own_deadline_and_none_runs_between_two() -> None:
    watch = established()
    for number in range(1, 10):
        # The end of one and the beginning of the next come in one read.
        watch.received(number * 80, in_message(number, payload=number))
        assert watch.check(number * 80, peer_waits=False) is None
    watch.received(800, Progress(messages=9, payload=100))
    watch.received(880, Progress(messages=9, payload=100))
    assert watch.check(960, peer_waits=False) is None


def test_nothing_runs_while_the_peer_waits_for_us_and_all_starts_anew() -> None:
    watch = established()
    watch.received(0, Progress(pdus=1, in_pdu=True, messages=1, in_message=True))
    assert watch.check(1_000, peer_waits=True) is None
    watch.went_on(1_000)
    assert watch.check(1_060, peer_waits=False) is None
    assert watch.check(1_061, peer_waits=False) is Overdue.PDU
    watch.received(1_061, in_message(1, payload=0))
    watch.received(1_119, in_message(1, payload=0))
    assert watch.check(1_120, peer_waits=False) is None
    assert watch.check(1_121, peer_waits=False) is Overdue.MESSAGE


def test_closing_is_bounded_by_artim_even_while_the_peer_waits() -> None:
    watch = established()
    watch.start_artim(100)
    assert watch.check(130, peer_waits=True) is None
    assert watch.check(131, peer_waits=True) is Overdue.ARTIM


@pytest.mark.parametrize("overdue", Overdue)
def test_each_says_in_words_what_ran_out(overdue: Overdue) -> None:
    assert overdue.value
