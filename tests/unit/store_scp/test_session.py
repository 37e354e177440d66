import dataclasses
from collections.abc import Callable

import pytest
from store_scp.dimse.services import StoreRequest
from store_scp.dimse.status import Status
from store_scp.errors import AssociationRejected, StoreRefused
from store_scp.instance import Instance
from store_scp.negotiation import ContextResult, ProposedContext
from store_scp.session import Reception, Session
from store_scp.settings import Settings
from structlog.testing import capture_logs

from contract.uids import uid_digest
from tests.unit.store_scp.builders import CT_IMAGE, EXPLICIT_LE, data_set

REQUEST = StoreRequest(CT_IMAGE, "1.2.3.4", CT_IMAGE, EXPLICIT_LE, memoryview(data_set()))


class MemorySink:
    """Keeps what it is given; ``fail`` raises instead."""

    def __init__(self, fail: Callable[[], None] = lambda: None) -> None:
        self.fail = fail
        self.stored: list[Instance] = []
        self.ended: list[str] = []

    def store(self, instance: Instance) -> None:
        self.fail()
        self.stored.append(instance)

    def association_ended(self, association_id: str) -> None:
        self.ended.append(association_id)

    def close(self, seconds: float) -> None:
        """Nothing is open."""


def reception(sink: MemorySink, **environ: str) -> Reception:
    return Reception(Settings.from_env(environ), sink)


def session(sink: MemorySink, **environ: str) -> Session:
    return reception(sink, **environ).enter("CT1", "STORESCP", "192.0.2.7")


def test_an_instance_is_stored_with_who_sent_it() -> None:
    sink = MemorySink()
    one = session(sink)
    assert one.store(REQUEST) is Status.SUCCESS
    assert sink.stored[0].sender == one.sender
    assert one.sender.calling_ae_title == "CT1"


def test_a_sinks_refusal_is_the_answer() -> None:
    def refuse() -> None:
        raise StoreRefused(Status.OUT_OF_RESOURCES, "SlowDown")

    with capture_logs() as lines:
        assert session(MemorySink(refuse)).store(REQUEST) is Status.OUT_OF_RESOURCES
    assert lines[0]["why"] == "SlowDown"
    assert lines[0]["sop_instance"] == uid_digest("1.2.3.4")


def test_a_bug_is_answered_with_0110_and_logged_without_its_message() -> None:
    def fail() -> None:
        raise ValueError("DOE^JANE")

    with capture_logs() as lines:
        assert session(MemorySink(fail)).store(REQUEST) is Status.PROCESSING_FAILURE
    assert lines[0]["why"].startswith("ValueError in fail:")
    assert "DOE" not in str(lines)


def test_one_line_sums_up_an_association() -> None:
    sink = MemorySink()
    hall = reception(sink)
    one = hall.enter("CT1", "STORESCP", "192.0.2.7")
    one.store(REQUEST)
    one.store(dataclasses.replace(REQUEST, data_set=None))
    with capture_logs() as lines:
        hall.leave(one, "released")
    assert sink.ended == [one.sender.association_id]
    (line,) = lines
    assert line["event"] == "association"
    assert (line["stored"], line["refused"], line["outcome"]) == (1, 1, "released")
    assert line["bytes"] == sink.stored[0].size


def test_contexts_are_negotiated_by_the_settings() -> None:
    one = session(MemorySink(), SUPPORTED_SOP_CLASS_UIDS="1.2.3")
    (answer,) = one.negotiate([ProposedContext(1, CT_IMAGE, (EXPLICIT_LE,))])
    assert answer.result is ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED


def test_the_limit_counts_those_who_are_inside() -> None:
    hall = reception(MemorySink(), MAXIMUM_ASSOCIATIONS="1")
    first = hall.enter("CT1", "STORESCP", "192.0.2.7")
    with pytest.raises(AssociationRejected, match="as many associations as allowed"):
        hall.enter("CT2", "STORESCP", "192.0.2.7")
    assert not hall.wait_until_empty(0)
    hall.leave(first, "released")
    assert hall.wait_until_empty(0)
    hall.enter("CT2", "STORESCP", "192.0.2.7")


def test_nobody_enters_a_closed_reception() -> None:
    hall = reception(MemorySink())
    hall.close()
    with pytest.raises(AssociationRejected, match="shutting down"):
        hall.enter("CT1", "STORESCP", "192.0.2.7")


def test_a_rejection_is_logged_with_titles_only_if_they_are_titles() -> None:
    hall = reception(MemorySink(), REQUIRE_CALLING_AE_TITLE="CT1")
    with capture_logs() as lines:
        for calling in ("MR1", "MR\r\n1"):
            with pytest.raises(AssociationRejected):
                hall.enter(calling, "STORESCP", "192.0.2.7")
    assert [line["calling_ae"] for line in lines] == ["MR1", None]
    assert {line["outcome"] for line in lines} == {"rejected"}
