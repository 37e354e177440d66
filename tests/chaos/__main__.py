"""``python -m tests.chaos --seconds 600 --seed N``: exits 1 if a promise was broken."""

import logging
import random
import signal
import sys
from collections import Counter

import click

from contract.manifest import CloseReason
from tests.chaos.ledger import Answer
from tests.chaos.run import Outcome, run
from tests.chaos.verdict import late_objects, violations


@click.command()
@click.option("--seconds", default=120.0, show_default=True, help="How long faults happen.")
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
    broken = violations(outcome.evidence)
    _report(outcome)
    for each in broken:
        _say(f"VIOLATION (seed {seed}) {each}")
    _say(f"{len(broken)} violations; seed {seed}.")
    was_tried = outcome.settled and outcome.ledger.count(Answer.ACKNOWLEDGED) > 0
    sys.exit(0 if was_tried and not broken else 1)


def _report(outcome: Outcome) -> None:
    storm, evidence, ledger = outcome.storm, outcome.evidence, outcome.ledger
    _say("Faults: " + ", ".join(f"{count} {kind}" for kind, count in sorted(storm.counts.items())))
    hits = sum(endpoint.hits for endpoint in storm.endpoints)
    _say(f"  {hits} requests to AWS spoilt, {storm.crashes.count} Lambda crashes.")
    answers = ", ".join(f"{ledger.count(answer)} {answer}" for answer in Answer)
    _say(f"C-STORE: {answers}; {len(evidence.sent)} instances.")
    states = Counter(row.state for row in evidence.instances.values())
    _say("Instances: " + ", ".join(f"{count} {state}" for state, count in sorted(states.items())))
    batches = evidence.batches.values()
    recovered = sum(
        each.close_reason is CloseReason.RECOVERED for each in evidence.manifests.values()
    )
    duplicates = sum(batch.counts.duplicates for batch in batches)
    late = len(late_objects(evidence))
    _say(
        f"Batches: {len(batches)}, of which {recovered} recovered; {duplicates} duplicates left "
        f"out; {late} late PUTs reported."
    )
    if not outcome.settled:
        _say("Not everything came to an end.")


def _say(text: str) -> None:
    click.echo(text)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
