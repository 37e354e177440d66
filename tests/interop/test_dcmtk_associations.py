"""DCMTK's ways to hold an association: PDU sizes, aborts, repetition, timeouts, many at once."""

import os
import subprocess
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.interop.archives import Archive, Stored
from tests.interop.programs import DCMTK_ENVIRONMENT, find, run, sample, succeed
from tests.protocol.receiver import ReceiverProcess
from tests.protocol.shared import SharedReceivers

LARGE = "RG1_UNCR.dcm"  # 7 MB: some hundred PDUs, whatever their size
DEFAULT = "131072"
PDU_SIZES = ("4096", "16384", DEFAULT)


@pytest.fixture(params=PDU_SIZES)
def any_pdu_size(request: pytest.FixtureRequest, receivers: SharedReceivers) -> Iterator[Archive]:
    """A receiver for each size it can announce."""
    settings = {} if request.param == DEFAULT else {"MAXIMUM_PDU_SIZE": request.param}
    with receivers.using(settings, stores=True) as process:
        yield Archive(process.port, process.storage)


@pytest.fixture(scope="module")
def large(reference: Archive) -> Counter[Stored]:
    """What storescu makes of the large file."""
    return reference.takes(lambda port: succeed("storescu", "127.0.0.1", str(port), sample(LARGE)))


@pytest.mark.parametrize("received", PDU_SIZES)
@pytest.mark.parametrize("sent", PDU_SIZES)
def test_pdus_of_any_size_carry_the_same_bytes(
    any_pdu_size: Archive, large: Counter[Stored], received: str, sent: str
) -> None:
    sizes = ("--max-pdu", received, "--max-send-pdu", sent)
    held = any_pdu_size.takes(
        lambda port: succeed("storescu", *sizes, "127.0.0.1", str(port), sample(LARGE))
    )
    assert held == large


@pytest.mark.parametrize("program", ["echoscu", "storescu"])
def test_an_association_that_is_aborted_is_logged_as_such_and_the_next_is_served(
    receiver: ReceiverProcess, program: str
) -> None:
    target = ("-aet", f"ABORT_{program}"[:16], "127.0.0.1", str(receiver.port))
    files = [sample("CT_small.dcm")] if program == "storescu" else []
    succeed(program, "--abort", *target, *files)
    line = receiver.wait_for("association", calling_ae=target[1])
    assert (line["outcome"], line["stored"], line["refused"]) == ("aborted", len(files), 0)
    succeed(program, *target, *files)


def test_what_came_before_an_abort_is_stored(ours: Archive, reference: Archive) -> None:
    def send(port: int, *options: str) -> str:
        files = (sample("CT_small.dcm"), sample("MR_small.dcm"))
        return succeed("storescu", *options, "127.0.0.1", str(port), *files)

    assert ours.takes(lambda port: send(port, "--abort")) == reference.takes(send)


def test_repeated_instances_are_acknowledged_each_time_and_kept_once(
    ours: Archive, receiver: ReceiverProcess
) -> None:
    target = ("--repeat", "20", "-aet", "REPEATER", "127.0.0.1")

    def send(port: int) -> str:
        return succeed("storescu", *target, str(port), sample("CT_small.dcm"))

    assert ours.takes(send).total() == 1
    line = receiver.wait_for("association", calling_ae="REPEATER")
    assert (line["stored"], line["refused"], line["outcome"]) == (20, 0, "released")


def test_echoscu_repeats_on_one_association_and_proposes_all_it_can(ours: Archive) -> None:
    most = ("--repeat", "50", "--propose-pc", "128", "--propose-ts", "38")
    printed = succeed("echoscu", "-v", *most, "127.0.0.1", str(ours.port))
    assert printed.count("Received Echo Response (Success)") == 50


def test_a_sender_with_every_timeout_set_needs_none(ours: Archive) -> None:
    timeouts = ("-to", "5", "-ts", "5", "-ta", "5", "-td", "5")
    succeed("storescu", *timeouts, "127.0.0.1", str(ours.port), sample("CT_small.dcm"))
    succeed("echoscu", *timeouts, "127.0.0.1", str(ours.port))


def test_a_user_identity_is_not_asked_for_and_does_no_harm(ours: Archive) -> None:
    user = ("-usr", "user", "-pwd", "secret")
    target = ("127.0.0.1", str(ours.port), sample("CT_small.dcm"))
    succeed("storescu", *user, *target)
    # PS3.7 D.3.3.7.2: who wants its user confirmed is told that nobody did.
    assert run("storescu", *user, "--pos-response", *target).returncode != 0


def test_associations_at_once_each_store_all_they_sent(ours: Archive) -> None:
    folder = sample("CT_small.dcm").parent / "dicomdirtests" / "98892003"
    files = sorted(each for each in folder.rglob("*") if each.is_file())

    def send(port: int) -> None:
        command = [find("storescu"), "--repeat", "3", "127.0.0.1", str(port), *map(str, files)]
        environment = os.environ | DCMTK_ENVIRONMENT
        senders = [subprocess.Popen(command, env=environment) for _ in range(8)]
        assert [each.wait(60) for each in senders] == [0] * len(senders)

    held = ours.takes(send)
    assert len({each.sop_instance_uid for each in held}) == held.total() == len(files)
