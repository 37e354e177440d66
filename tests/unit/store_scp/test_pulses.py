from store_scp.pulses import CHECK_SECONDS, Pulse


def after(pulse: Pulse, *beats: float) -> Pulse:
    for each in beats:
        pulse = pulse.checked(each)
    return pulse


def test_who_beats_is_never_stalled() -> None:
    assert not after(Pulse(0.0), *range(1, 100)).stalled


def test_who_falls_silent_is_stalled_after_20_seconds_of_checks() -> None:
    beating = after(Pulse(0.0), 1.0)
    assert not after(beating, *[1.0] * 3).stalled
    assert after(beating, *[1.0] * 4).stalled
    assert 4 * CHECK_SECONDS == 20


def test_one_beat_is_enough_to_begin_anew() -> None:
    pulse = after(Pulse(0.0), 1.0, 1.0, 1.0, 1.0, 2.0)
    assert not after(pulse, 2.0, 2.0, 2.0).stalled


def test_before_the_first_beat_there_is_a_minute() -> None:
    """With the number that its predecessor has left."""
    starting = Pulse(7.0)
    assert not after(starting, *[7.0] * 11).stalled
    assert after(starting, *[7.0] * 12).stalled


def test_a_pause_of_the_whole_machine_counts_as_one_check() -> None:
    beating = after(Pulse(0.0), 1.0)
    resumed = after(beating, 1.0)  # hours later: the supervisor was the first to wake up
    assert resumed.missed == 1
    assert after(resumed, 9_000.0).missed == 0
