"""The door of a worker and what an admitted association counts and logs."""

import asyncio
import dataclasses
import time

import pytest
from store_scp.board import Board, Panel
from store_scp.dimse.services import StoreRequest
from store_scp.dimse.status import Status
from store_scp.errors import AssociationRejected, StoreRefused
from store_scp.metrics import Counter, Gauge
from store_scp.negotiation import VERIFICATION, ContextResult
from store_scp.openings import Ports
from store_scp.policy import AccessPolicy, AeEntry, Certificate, policy_from_settings
from store_scp.reception import Reception
from store_scp.session import Session
from store_scp.settings import Settings
from store_scp.spool import Spool
from store_scp.transfer import Depot
from store_scp.turns import Turns
from store_scp.upper_layer import AssociateRequest, ProposedContext
from structlog.testing import capture_logs

from contract.uids import uid_digest
from tests.unit.store_scp.builders import CT_IMAGE, EXPLICIT_LE, data_set
from tests.unit.store_scp.test_transfer import Bug, MemorySink, Scene, failing

FIND = "1.2.840.10008.5.1.4.1.2.2.1"
REQUEST = StoreRequest(CT_IMAGE, "1.2.3.4", CT_IMAGE, EXPLICIT_LE)
ASKED = AssociateRequest(
    1, "STORESCP", "CT1", "1.2.840.10008.3.1.1.1",
    (ProposedContext(1, CT_IMAGE, (EXPLICIT_LE,)),), 0, None, bytes(64),
)  # fmt: skip


class Hall:
    """A reception with everything it needs, over a board of its own."""

    def __init__(
        self, sink: MemorySink | None = None, policy: AccessPolicy | None = None, **environ: str
    ) -> None:
        settings = Settings.from_env(environ)
        self.board = Board.create(1, settings.maximum_associations)
        self.panel: Panel = self.board.panel(0)
        self.sink = sink or MemorySink()
        self.buffered = 0
        spool = Spool(1_000, lambda _: None, lambda: self.buffered)
        depot = Depot(spool, Turns(), self.sink, settings.max_instance_bytes)
        self.reception = Reception(
            policy or policy_from_settings(settings),
            settings.maximum_associations,
            depot,
            self.panel,
            Ports(11_112, 2_762),
        )

    def enter(
        self, request: AssociateRequest = ASKED, certificate: Certificate | None = None
    ) -> Session:
        return self.reception.enter(request, "192.0.2.7", certificate)

    def rejected(self, request: AssociateRequest = ASKED) -> tuple[int, int, int]:
        with pytest.raises(AssociationRejected) as caught:
            self.enter(request)
        return caught.value.result, caught.value.source, caught.value.reason

    def leave(self, session: Session) -> None:
        self.reception.leave(session, "released", Counter.ASSOCIATIONS_RELEASED, None)

    def count(self, counter: Counter) -> float:
        return self.board.read()[0].counters[counter]

    def gauge(self, gauge: Gauge) -> float:
        return self.board.read()[0].gauges[gauge]


def store(session: Session, data: bytes = data_set(), request: StoreRequest = REQUEST) -> Status:
    async def scenario() -> Status:
        transfer = session.begin(request)
        transfer.write(memoryview(data), scene := Scene())
        return await session.finish(transfer, request, scene)

    return asyncio.run(scenario())


def test_an_instance_is_stored_with_who_sent_it() -> None:
    hall = Hall()
    session = hall.enter()
    assert store(session) is Status.SUCCESS
    assert hall.sink.instances[0].sender == session.sender
    assert session.sender.calling_ae_title == "CT1"
    assert hall.count(Counter.INSTANCES_STORED) == 1
    assert hall.count(Counter.BYTES_STORED) == hall.count(Counter.BYTES_RECEIVED) == len(data_set())


def test_the_next_instances_memory_is_taken_at_the_size_of_the_last() -> None:
    session = Hall().enter()
    assert session.begin(REQUEST)._held.size == 64 * 1024
    assert store(session, data_set(pixels=bytes(500_000))) is Status.SUCCESS
    assert session.begin(REQUEST)._held.size == 1024**2


def test_a_sinks_refusal_is_the_answer() -> None:
    hall = Hall(
        MemorySink(fail=failing("store", StoreRefused(Status.OUT_OF_RESOURCES, "SlowDown")))
    )
    with capture_logs() as lines:
        assert store(hall.enter()) is Status.OUT_OF_RESOURCES
    assert lines[0]["why"] == "SlowDown"
    assert lines[0]["sop_instance"] == uid_digest("1.2.3.4")
    assert hall.count(Counter.INSTANCES_REFUSED_A700) == 1


def test_a_bug_is_answered_with_0110_and_logged_without_its_message() -> None:
    hall = Hall(MemorySink(fail=failing("store", Bug("DOE^JANE"))))
    with capture_logs() as lines:
        assert store(hall.enter()) is Status.PROCESSING_FAILURE
    assert lines[0]["why"].startswith("Bug in fail:")
    assert "DOE" not in str(lines)


def test_one_line_sums_up_an_association() -> None:
    hall = Hall()
    session = hall.enter()
    store(session)
    store(session, b"")
    assert hall.gauge(Gauge.ASSOCIATIONS_ESTABLISHED) == 1
    with capture_logs() as lines:
        hall.leave(session)
    (line,) = lines
    assert line["event"] == "association"
    assert (line["stored"], line["refused"], line["outcome"]) == (1, 1, "released")
    assert (line["bytes"], line["entry"]) == (len(data_set()), "default")
    assert "why" not in line
    assert hall.gauge(Gauge.ASSOCIATIONS_ESTABLISHED) == 0
    assert hall.count(Counter.INSTANCES_REFUSED_CXXX) == 1


def test_what_is_accepted_and_where_it_goes_is_the_entrys() -> None:
    entry = AeEntry(
        "mixed-ct", sop_classes=frozenset({"1.2.3"}), batch_by="mixed", datastore_id="d"
    )
    hall = Hall(policy=AccessPolicy((entry,)))
    session = hall.enter()
    (answer,) = session.negotiate(ASKED.contexts)
    assert answer.result is ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED
    store(session)
    route = hall.sink.instances[0].route
    assert (route.by_study, route.datastore_id) == (False, "d")


def test_the_limit_counts_those_who_are_inside() -> None:
    hall = Hall(MAXIMUM_ASSOCIATIONS="1")
    first = hall.enter()
    assert hall.rejected() == (2, 3, 2)
    hall.leave(first)
    hall.enter()
    assert hall.count(Counter.ASSOCIATIONS_REJECTED_TRANSIENT) == 1


def test_a_rejection_says_whose_seats_are_taken_and_which_setting_has_more() -> None:
    entries = (AeEntry("ct", calling=frozenset({"CT1"}), max_associations=1), AeEntry("rest"))
    hall = Hall(policy=AccessPolicy(entries), MAXIMUM_ASSOCIATIONS="2")
    hall.enter()
    with capture_logs() as lines:
        hall.rejected()
        hall.enter(dataclasses.replace(ASKED, calling_ae_title="MR1"))
        hall.rejected(dataclasses.replace(ASKED, calling_ae_title="MR1"))
    group, total = lines
    assert group["why"].endswith("max_associations of the entry allows are open: 1")
    assert (group["entry"], group["key"]) == ("ct", "max_associations")
    assert total["why"].endswith("MAXIMUM_ASSOCIATIONS allows are open: 2")
    assert "MAXIMUM_ASSOCIATIONS" in total["needs"]
    assert "entry" not in total


def test_a_rejection_says_what_was_proposed_and_what_would_be_accepted() -> None:
    contexts = (
        ProposedContext(1, FIND, (EXPLICIT_LE,)),
        ProposedContext(3, CT_IMAGE, (EXPLICIT_LE,)),
        ProposedContext(5, "1.3.12.2.1107.5.9.1", (EXPLICIT_LE,)),
    )
    hall = Hall(REQUIRE_CALLING_AE_TITLE="CT1")
    with capture_logs() as lines:
        hall.rejected(dataclasses.replace(ASKED, calling_ae_title="MR1", contexts=contexts))
    (line,) = lines
    assert line["proposed"] == [
        "Study Root Query/Retrieve Information Model - FIND",
        "CT Image Storage",
        "a private SOP class",
    ]
    assert (line["entry"], line["key"]) == ("default", "REQUIRE_CALLING_AE_TITLE")
    assert line["needs"].startswith("calling=CT1")


def test_refused_contexts_are_told_in_the_line_of_the_association() -> None:
    contexts = (*ASKED.contexts, ProposedContext(3, FIND, (EXPLICIT_LE,)))
    hall = Hall()
    session = hall.enter()
    with capture_logs() as lines:
        session.negotiate(contexts)
        hall.leave(session)
    (line,) = lines
    assert line["refused_contexts"] == [
        "Study Root Query/Retrieve Information Model - FIND: this receiver stores and verifies only"
    ]


def test_where_nothing_is_left_to_store_on_a_warning_tells_of_the_refused_contexts() -> None:
    contexts = (
        ProposedContext(1, VERIFICATION, (EXPLICIT_LE,)),
        ProposedContext(3, FIND, (EXPLICIT_LE,)),
    )
    hall = Hall()
    session = hall.enter()
    with capture_logs() as lines:
        session.negotiate(contexts)
        hall.leave(session)
    warning, line = lines
    assert (warning["event"], warning["log_level"]) == ("nothing_to_store", "warning")
    assert (warning["calling_ae"], warning["entry"]) == ("CT1", "default")
    assert len(warning["refused_contexts"]) == 1
    assert "refused_contexts" not in line


def test_an_association_to_verify_only_is_no_warning() -> None:
    hall = Hall()
    session = hall.enter()
    with capture_logs() as lines:
        session.negotiate((ProposedContext(1, VERIFICATION, (EXPLICIT_LE,)),))
        hall.leave(session)
    assert [line["event"] for line in lines] == ["association"]
    assert "refused_contexts" not in lines[0]


def test_an_entry_has_a_limit_of_its_own() -> None:
    entries = (
        AeEntry("ct", calling=frozenset({"CT1"}), max_associations=1),
        AeEntry("rest"),
    )
    hall = Hall(policy=AccessPolicy(entries))
    hall.enter()
    assert hall.rejected() == (2, 3, 2)
    hall.enter(dataclasses.replace(ASKED, calling_ae_title="MR1"))


def test_nobody_enters_while_it_closes_or_memory_is_short() -> None:
    hall = Hall()
    hall.buffered = 950
    assert hall.rejected() == (2, 3, 1)
    hall.buffered = 0
    hall.reception.closed = True
    assert hall.rejected() == (2, 3, 1)


@pytest.mark.parametrize(
    ("change", "triple"),
    [
        ({"protocol_version": 2}, (1, 2, 2)),
        ({"application_context": "1.2"}, (1, 1, 2)),
        ({"calling_ae_title": "CT\r\n"}, (1, 1, 3)),
        ({"called_ae_title": ""}, (1, 1, 7)),
    ],
)
def test_each_rejection_has_its_triple(change: dict[str, object], triple: tuple[int, ...]) -> None:
    request = dataclasses.replace(ASKED, **change)  # type: ignore[arg-type]
    assert Hall().rejected(request) == triple


def test_only_bit_0_of_the_protocol_version_is_tested() -> None:
    Hall().enter(dataclasses.replace(ASKED, protocol_version=3))


def test_a_rejection_is_logged_with_titles_only_if_they_are_titles() -> None:
    hall = Hall(REQUIRE_CALLING_AE_TITLE="CT1")
    with capture_logs() as lines:
        for calling in ("MR1", "MR\r\n1"):
            hall.rejected(dataclasses.replace(ASKED, calling_ae_title=calling))
    assert [line["calling_ae"] for line in lines] == ["MR1", None]
    assert {line["outcome"] for line in lines} == {"rejected"}
    assert hall.count(Counter.ASSOCIATIONS_REJECTED_PERMANENT) == 2


def test_the_line_of_an_association_names_its_certificate_accepted_or_not() -> None:
    certificate = Certificate("CN=ct1,O=Hospital", frozenset({"ct1.example.org"}))
    hall = Hall(REQUIRE_CALLING_AE_TITLE="CT1")
    with capture_logs() as lines:
        hall.leave(hall.enter(certificate=certificate))
        hall.leave(hall.enter())
        with pytest.raises(AssociationRejected):
            hall.enter(dataclasses.replace(ASKED, calling_ae_title="MR1"), certificate)
    accepted, plain, rejected = lines
    for line in (accepted, rejected):
        assert line["tls_subject"] == "CN=ct1,O=Hospital"
        assert line["tls_san"] == ["ct1.example.org"]
    assert "tls_subject" not in plain


@pytest.mark.parametrize(("seconds", "days"), [(29.9 * 86_400, 29), (3_600, 0), (-3_600, -1)])
def test_a_peers_certificate_that_ends_soon_is_told_once_for_each_association(
    seconds: float, days: int
) -> None:
    certificate = Certificate("CN=ct1", frozenset(), time.time() + seconds)
    hall = Hall()
    with capture_logs() as lines:
        hall.leave(hall.enter(certificate=certificate))
    (told,) = [line for line in lines if line["event"] == "peer_certificate_expires"]
    assert (told["tls_subject"], told["days"], told["calling_ae"]) == ("CN=ct1", days, "CT1")


def test_a_peers_certificate_that_lasts_is_no_warning() -> None:
    hall = Hall()
    with capture_logs() as lines:
        hall.leave(hall.enter(certificate=Certificate("CN=a", frozenset(), time.time() + 31e5)))
    assert [line["event"] for line in lines] == ["association"]
