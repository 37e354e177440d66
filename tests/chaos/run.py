"""One run: senders and faults for so many seconds, then quiet, then the verdict."""

import os
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from unittest.mock import patch

from chalicelib import aws, wiring
from chalicelib.events import announce
from chalicelib.intake import dispatch
from chalicelib.operations import dead_letters, setup
from chalicelib.operations.reconcile import reconcile

from local import names
from local.cloud import Cloud, CloudOptions
from tests.chaos.crashes import Crashes
from tests.chaos.evidence import Witness
from tests.chaos.facts import Evidence
from tests.chaos.fleet import Fleet
from tests.chaos.ledger import Ledger
from tests.chaos.plan import plan
from tests.chaos.senders import Sender, Store, store_by_dcmtk, store_by_pynetdicom
from tests.chaos.storm import CALM_JOBS, Storm
from tests.chaos.weather import Endpoint

LOGS = names.REPOSITORY / "build" / "chaos"
_TASKS = 2
# So short that in two minutes much expires.
_RECEIVER = {
    "SCP_WORKERS": "2",
    "LEASE_SECONDS": "3",
    "DIMSE_TIMEOUT": "10",
    "NETWORK_TIMEOUT": "20",
    "BATCH_QUIET_SECONDS": "2",
    "BATCH_HELD_QUIET_SECONDS": "5",
    "BATCH_MAX_FILES": "10",
    "DRAIN_SECONDS": "10",
}
_LAMBDAS = {
    "RECOVERY_GRACE_SECONDS": "5",
    "START_RATE": "20",
    "START_BURST": "5",
    # A look at a long queue takes moto a second.
    "DISPATCH_SECONDS": "10",
}
# What crashed holding a lock or a batch is given up after that long; on AWS after minutes.
_GIVEN_UP = timedelta(seconds=20)
_LOOK_SECONDS = 1.0
_SAY_SECONDS = 15.0
# Step Functions' longest pause after the few failures in a row that a run brings about.
_PATIENCE_SECONDS = 150.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run was and what it left."""

    evidence: Evidence
    ledger: Ledger
    storm: Storm
    settled: bool


def run(seed: int, seconds: float, say: Callable[[str], None]) -> Outcome:
    """Raise no error for what the product does wrong: the evidence tells."""
    with ExitStack() as stack:
        enter = stack.enter_context
        enter(patch.multiple(dispatch, _HOLD=_GIVEN_UP, _STALLED=_GIVEN_UP))
        enter(patch.object(announce, "_HOLD", _GIVEN_UP))
        options = CloudOptions(
            emulator=CALM_JOBS,
            lambda_settings=_LAMBDAS,
            receiver_environment=_RECEIVER,
            seed=seed,
        )
        cloud = enter(Cloud(options))
        shutil.rmtree(LOGS, ignore_errors=True)
        stack.callback(shutil.copytree, cloud.log_folder, LOGS, dirs_exist_ok=True)
        witness = Witness.of(cloud.aws_url)
        endpoints = tuple(enter(Endpoint(f"{seed}/{who}")) for who in ("receivers", "lambdas"))
        crashes = Crashes(f"{seed}/crashes")
        enter(_lambdas_through(endpoints[1], crashes))
        receiving = {"AWS_ENDPOINT_URL": endpoints[0].url}
        fleet = enter(Fleet(lambda name: cloud.receiver(name, environment=receiving), _TASKS))
        storm, ledger = Storm(cloud, fleet, endpoints, crashes), Ledger()
        with _sending(seed, fleet, ledger):
            storm.rage(plan(seed, seconds), seconds)
        say("Faults and senders have stopped; waiting until all is done ...")
        settled = _settle(witness, say)
        reported = _reconcile()
        return Outcome(witness.evidence(ledger, reported, fleet.died), ledger, storm, settled)


@contextmanager
def _lambdas_through(endpoint: Endpoint, crashes: Crashes) -> Iterator[None]:
    with patch.dict(os.environ, {"AWS_ENDPOINT_URL": endpoint.url}):
        wiring.forget()
        crashes.install()
        yield


@contextmanager
def _sending(seed: int, fleet: Fleet, ledger: Ledger) -> Iterator[None]:
    """Senders at work; they end what they are at when the block is left."""
    stop = threading.Event()
    stores: list[Store] = [store_by_pynetdicom] * 3
    stores += [store_by_dcmtk if shutil.which("storescu") else store_by_pynetdicom] * 2
    senders = [
        Sender(f"SCU{n}", store, fleet.ports, ledger, random.Random(f"{seed}/sender{n}"), stop)
        for n, store in enumerate(stores)
    ]
    with ThreadPoolExecutor(len(senders)) as threads:
        running: list[Future[None]] = [threads.submit(sender.run) for sender in senders]
        try:
            yield
        finally:
            stop.set()
    for each in running:
        each.result()


def _settle(witness: Witness, say: Callable[[str], None]) -> bool:
    """Wait until nothing is on its way; False when nothing has moved for long."""
    last, changed_at, said_at = {"": 0}, time.monotonic(), 0.0
    while left := witness.unfinished():
        now = time.monotonic()
        if left != last:
            last, changed_at = left, now
        if now - said_at > _SAY_SECONDS:
            said_at = now
            say("  left: " + ", ".join(f"{count} {what}" for what, count in left.items()))
        if now - changed_at > _PATIENCE_SECONDS:
            return False
        if "dead letters" in left:
            dead_letters.move(aws.sqs(), names.DEAD_LETTER_QUEUE, names.QUEUE, None)
        time.sleep(_LOOK_SECONDS)
    return True


def _reconcile() -> frozenset[str]:
    """Look at every object, whatever its age; the keys of those that nobody accounts for."""
    work = replace(setup.reconciliation(), older_than=timedelta(0))
    return frozenset(key for key, _ in reconcile(work).listed)
