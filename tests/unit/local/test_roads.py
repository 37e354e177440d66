from local.roads import RELIABLE, EventFaults, Road


def test_a_reliable_road_delivers_each_event_once_and_at_once() -> None:
    road = Road(RELIABLE, "seed")
    assert [road.delays() for _ in range(100)] == [[0.0]] * 100


def test_the_same_seed_decides_alike() -> None:
    faults = EventFaults(lost=0.2, twice=0.2, late=0.2)
    one, same, other = (Road(faults, seed) for seed in ("1", "1", "2"))
    fates = [one.delays() for _ in range(100)]
    assert fates == [same.delays() for _ in range(100)]
    assert fates != [other.delays() for _ in range(100)]


def test_every_fault_happens_as_often_as_it_should() -> None:
    road = Road(EventFaults(lost=0.1, twice=0.2, late=0.3, late_seconds=5), "seed")
    fates = [road.delays() for _ in range(5_000)]
    lost, twice = fates.count([]), sum(len(fate) == 2 for fate in fates)
    late = sum(len(fate) == 1 and 0 < fate[0] <= 5 for fate in fates)
    assert 400 < lost < 600
    assert 850 < twice < 1150
    assert 1350 < late < 1650
    assert lost + twice + late + fates.count([0.0]) == 5_000
