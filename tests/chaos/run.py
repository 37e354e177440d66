"""One run: senders and faults for so many seconds, then quiet, then the evidence.

Then everything that failed is retried, as an operator does: too early, and again when the last
causes are gone. Then there is evidence again.
"""

import os
import random
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from unittest.mock import patch

from chalicelib import aws, wiring
from chalicelib.events import announce
from chalicelib.imports import lost
from chalicelib.intake import admission, dispatch, stalled
from chalicelib.operations import dead_letters, setup
from chalicelib.operations.dead_letter_walk import Queues
from chalicelib.operations.quarantine import OperationRefused
from chalicelib.operations.reconcile import reconcile
from chalicelib.operations.repeat import NothingToRepeat
from chalicelib.operations.retry import retry_batch
from chalicelib.stores import blocked
from chalicelib.stores.blocked import Work

from contract.errors import ProductError
from contract.records import BatchRecord, BatchState
from local import names
from local.cloud import Cloud, CloudOptions
from tests.chaos.crashes import Crashes
from tests.chaos.deeds import Archive
from tests.chaos.droppers import Drop, Dropper
from tests.chaos.evidence import Witness
from tests.chaos.facts import Evidence
from tests.chaos.fleet import Fleet
from tests.chaos.haste import in_haste
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
    # A look at a long queue takes moto a second; meanwhile the queue's next messages wait.
    "DISPATCH_SECONDS": "4",
    # The least there can be: some jobs are longer.
    "IMPORT_MAX_AGE_SECONDS": "60",
}
_LOOK_AGAIN_SECONDS = 3
# What crashed holding a lock or a batch is given up after that long; on AWS after minutes.
_GIVEN_UP = timedelta(seconds=20)
# Between two tries of what is blocked, or of a stalled batch.
_SOON = timedelta(seconds=3)
# HealthImaging's list shows a job at once here.
_LISTED = timedelta(seconds=2)
_LOOK_SECONDS = 1.0
_SAY_SECONDS = 15.0
# Longer than a long job and the wait behind it.
_PATIENCE_SECONDS = 150.0
# Until then an event may be on its way that was sent in the storm.
_LATE_SECONDS = 12.0
_FAILED = (BatchState.FAILED, BatchState.PARTIAL)


@dataclass(frozen=True, slots=True)
class Retries:
    """What became of the batches that had failed: the new batches, or why there is none.

    ``needless`` are those of which nothing was left to retry, each with what the product said.
    """

    repeated: Mapping[str, str] = field(default_factory=dict)
    needless: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)

    def beyond(self, earlier: "Retries") -> "Retries":
        """Without those that ``earlier`` had made."""
        known = earlier.repeated.items()
        return replace(self, repeated=dict(self.repeated.items() - known))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run was and what it left: behind the storm, and behind the retries.

    The early retries are those while some objects are archived still, the others those of what
    could not be retried then.
    """

    evidence: Evidence
    evidence_after: Evidence
    early_retries: Retries
    retries: Retries
    ledger: Ledger
    storm: Storm
    drops: Mapping[Drop, int]
    settled: bool


def run(seed: int, seconds: float, say: Callable[[str], None]) -> Outcome:
    """Raise no error for what the product does wrong: the evidence tells."""
    with ExitStack() as stack:
        enter = stack.enter_context
        enter(patch.object(dispatch, "_HOLD", _GIVEN_UP))
        enter(patch.object(stalled, "_UNASKED", _GIVEN_UP))
        enter(patch.multiple(admission, _FIRST_INTERVAL=_SOON, _LONGEST_INTERVAL=_GIVEN_UP))
        enter(patch.multiple(blocked, _FIRST_PAUSE=_SOON, _LONGEST=dict.fromkeys(Work, _SOON)))
        enter(patch.multiple(announce, _HOLD=_GIVEN_UP, _JOB_LAG=_GIVEN_UP))
        enter(patch.object(lost, "_LISTED", _LISTED))
        enter(in_haste())
        options = CloudOptions(
            emulator=CALM_JOBS,
            lambda_settings=_LAMBDAS,
            receiver_environment=_RECEIVER,
            seed=seed,
            look_again_seconds=_LOOK_AGAIN_SECONDS,
            deletion_again_seconds=_LOOK_AGAIN_SECONDS,
        )
        cloud = enter(Cloud(options))
        shutil.rmtree(LOGS, ignore_errors=True)
        stack.callback(shutil.copytree, cloud.log_folder, LOGS, dirs_exist_ok=True)
        witness = Witness.of(cloud.aws_url)
        receivers, lambdas = (enter(Endpoint(f"{seed}/{who}")) for who in ("receivers", "lambdas"))
        crashes, archive = Crashes(f"{seed}/crashes"), Archive(cloud.aws_url)
        enter(_lambdas_through(lambdas, crashes))
        receiving = {"AWS_ENDPOINT_URL": receivers.url}
        fleet = enter(Fleet(lambda name: cloud.receiver(name, environment=receiving), _TASKS))
        storm, ledger = Storm(cloud, fleet, receivers, lambdas, crashes, archive), Ledger()
        drops: Counter[Drop] = Counter()
        with _sending(seed, fleet, ledger), _dropping(seed, witness, ledger, archive, drops):
            storm.rage(plan(seed, seconds), seconds)

        def evidence() -> Evidence:
            outages = [*storm.outages.all(), *archive.outages.all()]
            return witness.evidence(ledger, _reconcile(), outages, fleet.died)

        say("Faults and senders have stopped; waiting until all is done ...")
        settled = _settle(witness, say)
        before = evidence()
        say("What failed is retried ...")
        early = _retry(before.batches.values())
        say(
            f"{archive.empty()} archived objects are restored, and what failed is retried again ..."
        )
        retries = _retry(before.batches.values()).beyond(early)
        settled = _settle(witness, say) and settled
        return Outcome(before, evidence(), early, retries, ledger, storm, drops, settled)


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
    stores: list[Store] = [store_by_pynetdicom] * 2
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


@contextmanager
def _dropping(
    seed: int, witness: Witness, ledger: Ledger, archive: Archive, drops: Counter[Drop]
) -> Iterator[None]:
    """Somebody drops files while the block is run."""
    stop = threading.Event()
    chance = random.Random(f"{seed}/dropper")
    dropper = Dropper(witness.s3, ledger, archive, chance, stop, drops)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(dropper.run)
        try:
            yield
        finally:
            stop.set()
    running.result()


def _settle(witness: Witness, say: Callable[[str], None]) -> bool:
    """Wait until nothing is on its way; False when nothing has moved for long."""
    began = changed_at = time.monotonic()
    last, said_at = {"": 0}, 0.0
    queues = Queues(aws.sqs(), names.DEAD_LETTER_QUEUE, names.QUEUE, names.DICOM_BUCKET)
    while (left := witness.unfinished()) or time.monotonic() < began + _LATE_SECONDS:
        now = time.monotonic()
        if left != last:
            last, changed_at = left, now
        if left and now - said_at > _SAY_SECONDS:
            said_at = now
            say("  left: " + ", ".join(f"{count} {what}" for what, count in left.items()))
        if now - changed_at > _PATIENCE_SECONDS:
            return False
        if "dead letters" in left:
            dead_letters.redrive(queues, None)
        time.sleep(_LOOK_SECONDS)
    return True


def _retry(batches: Iterable[BatchRecord]) -> Retries:
    """Each batch that has failed, or some of it."""
    repeated, needless, refused = {}, {}, {}
    for batch in batches:
        if batch.state in _FAILED:
            try:
                entry = retry_batch(batch.batch_id, "chaos", setup.operations())
            except NothingToRepeat as answer:
                needless[batch.batch_id] = str(answer)
            except OperationRefused as refusal:
                refused[batch.batch_id] = str(refusal)
            except ProductError as error:
                refused[batch.batch_id] = f"{type(error).__name__}: {error}"
            else:
                repeated[batch.batch_id] = entry.batch_id
    return Retries(repeated, needless, refused)


def _reconcile() -> frozenset[str]:
    """Look at every object, whatever its age; the keys of those that nobody accounts for."""
    work = replace(setup.reconciliation(), older_than=timedelta(0))
    return frozenset(key for key, _ in reconcile(work).listed)
