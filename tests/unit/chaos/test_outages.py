from tests.chaos.outages import Outages


def test_an_outage_lasts_from_its_first_begin_to_its_end() -> None:
    outages = Outages()
    outages.end("nothing")
    outages.begin("one", {"a"}.__contains__)
    (first,) = outages.all()
    outages.begin("one", {"a"}.__contains__)
    assert outages.all() == [first]
    outages.begin("other", {"b"}.__contains__)
    outages.end("one")
    over, still = outages.all()
    assert (over.hits("a"), over.since, still.hits("b")) == (True, first.since, True)
    assert over.until is not None
    assert still.until is None
    outages.end_all()
    assert all(each.until for each in outages.all())
