import pytest
from store_scp.watch import Overdue, Timeouts, Watch

TIMEOUTS = Timeouts(artim=30, pdu=60, network=90)


def established() -> Watch:
    watch = Watch(TIMEOUTS, 0)
    watch.stop_artim()
    return watch


def test_artim_runs_until_the_association_stands_whatever_is_sent() -> None:
    watch = Watch(TIMEOUTS, 0)
    watch.received(29, in_pdu=True, pdus=1)
    assert watch.check(30, peer_waits=False) is None
    assert watch.check(30.1, peer_waits=False) is Overdue.ARTIM
    watch.stop_artim()
    assert watch.check(31, peer_waits=False) is None


def test_one_pdu_has_a_deadline_however_busy_the_peer_is() -> None:
    watch = established()
    for second in range(61):
        watch.received(second, in_pdu=True, pdus=2)
        assert watch.check(second, peer_waits=False) is None
    assert watch.check(60.5, peer_waits=False) is Overdue.PDU


def test_each_pdu_has_its_own_deadline() -> None:
    watch = established()
    for second in range(300):
        watch.received(second, in_pdu=True, pdus=second)
    assert watch.check(300, peer_waits=False) is None
    watch.received(301, in_pdu=False, pdus=300)
    assert watch.check(390, peer_waits=False) is None
    assert watch.check(391.1, peer_waits=False) is Overdue.NETWORK


def test_nothing_runs_while_the_peer_waits_for_us_and_all_starts_anew() -> None:
    watch = established()
    watch.received(0, in_pdu=True, pdus=1)
    assert watch.check(1_000, peer_waits=True) is None
    watch.went_on(1_000)
    assert watch.check(1_060, peer_waits=False) is None
    assert watch.check(1_061, peer_waits=False) is Overdue.PDU


def test_closing_is_bounded_by_artim_even_while_the_peer_waits() -> None:
    watch = established()
    watch.start_artim(100)
    assert watch.check(130, peer_waits=True) is None
    assert watch.check(131, peer_waits=True) is Overdue.ARTIM


@pytest.mark.parametrize("overdue", Overdue)
def test_each_says_in_words_what_ran_out(overdue: Overdue) -> None:
    assert overdue.value
