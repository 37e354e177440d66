"""``python -m tests.chaos --seconds 600 --seed N``: exits 1 if a promise was broken."""

import logging
import random
import signal
import sys
from collections import Counter

import click

from contract.manifest import CloseReason
from contract.records import InstanceState
from tests.chaos.details import about
from tests.chaos.facts import Evidence
from tests.chaos.ledger import Answer
from tests.chaos.run import Outcome, run
from tests.chaos.verdict import late_objects, unretried, violations


@click.command()
@click.option("--seconds", default=150.0, show_default=True, help="How long faults happen.")
@click.option("--seed", type=int, help="The schedule of faults; random where it is left out.")
def main(seconds: float, seed: int | None) -> None:
    """Send, break everything, wait, and check that no promise was broken."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stop every process, as Ctrl-C does
    for chatty in ("pynetdicom", "moto"):  # peers do die here, and executions do fail
        logging.getLogger(chatty).setLevel(logging.CRITICAL)
    # moto's S3 trips over its own threads, and is asked again.
    logging.getLogger("werkzeug").disabled = True
    if seed is None:
        seed = random.randrange(1_000_000)
    _say(f"Chaos for {seconds:.0f} s with seed {seed} ...")
    outcome = run(seed, seconds, _say)
    _report(outcome)
    broken = [
        *(("behind the storm", each) for each in violations(outcome.evidence)),
        *(("behind the retries", each) for each in violations(outcome.evidence_after)),
        *(("behind the retries", each) for each in unretried(outcome.retries.refused)),
    ]
    for when, each in broken:
        _say(f"VIOLATION (seed {seed}, {when}) {each}")
    for subject in dict.fromkeys(each.subject for _, each in broken):
        for line in about(subject, outcome.evidence):
            _say(f"  {line}")
    _say(f"{len(broken)} violations; seed {seed}.")
    was_tried = outcome.settled and outcome.ledger.count(Answer.ACKNOWLEDGED) > 0
    sys.exit(0 if was_tried and not broken else 1)


def _report(outcome: Outcome) -> None:
    storm, ledger = outcome.storm, outcome.ledger
    _say("Faults: " + ", ".join(f"{count} {kind}" for kind, count in sorted(storm.counts.items())))
    hits = storm.receivers.hits + storm.lambdas.hits
    _say(
        f"  {hits} requests to AWS failed or delayed, {storm.crashes.count} Lambda crashes, "
        f"{storm.deleted} image sets deleted, {storm.stopped} executions stopped."
    )
    drops = ", ".join(f"{count} {drop}" for drop, count in sorted(outcome.drops.items()))
    _say(f"Dropped: {drops}.")
    answers = ", ".join(f"{ledger.count(answer)} {answer}" for answer in Answer)
    _say(f"C-STORE: {answers}; {len(outcome.evidence.sent)} contents.")
    for variant, contents in ledger.kept().items():
        studies = {each.instance.partition("/")[0] for each in contents}
        _say(f"  {len(contents)} {variant} in {len(studies)} studies acknowledged")
    _say("After the storm:")
    _tell(outcome.evidence)
    for when, retries in (("early ", outcome.early_retries), ("", outcome.retries)):
        _say(f"After {len(retries.repeated)} {when}retries:")
        for what, reasons in (("needless", retries.needless), ("refused", retries.refused)):
            for reason, count in Counter(reasons.values()).most_common():
                _say(f"  {count} {what}: {reason}")
    _tell(outcome.evidence_after)
    if not outcome.settled:
        _say("Not everything came to an end.")


def _tell(evidence: Evidence) -> None:
    states = Counter(row.state for row in evidence.instances.values())
    _say("  Instances: " + ", ".join(f"{count} {state}" for state, count in sorted(states.items())))
    rows = evidence.instances.values()
    reasons = Counter(row.reason for row in rows if row.state is InstanceState.FAILED)
    for reason, count in reasons.most_common(5):
        _say(f"    {count} failed: {reason}")
    beside = [row for row in rows if row.beside]
    others = sum(row.differs for row in beside)
    copied = sum(row.is_copy for row in beside)
    unknown = len(beside) - others - copied
    _say(f"    beside others: {others} other bytes, {unknown} not comparable, {copied} copies")
    ended = Counter(batch.state for batch in evidence.batches.values())
    _say("  Batches: " + ", ".join(f"{count} {state}" for state, count in sorted(ended.items())))
    manifests, batches = evidence.manifests.values(), evidence.batches.values()
    recovered = sum(each.close_reason is CloseReason.RECOVERED for each in manifests)
    corrected = sum(batch.corrected_at is not None for batch in batches)
    duplicates = sum(batch.counts.duplicates for batch in batches)
    deleted = {each.content for each in evidence.copies if not each.is_there}
    again = {each.content for each in evidence.copies if each.is_there} & deleted
    _say(
        f"    {recovered} recovered, {corrected} corrected; {duplicates} duplicates left out, "
        f"{len(again)} deleted ones stored again; {len(late_objects(evidence))} late PUTs reported."
    )


def _say(text: str) -> None:
    click.echo(text)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
