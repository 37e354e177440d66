"""``python -m tests.mutants --contexts build/contexts``: plant errors, and see what is found.

``--again OWN.json`` keeps what that run killed and tries the rest again, for example with
``--exhaustive`` and a longer ``--limit``. ``--compare OLD.json`` exits 1 if the old run killed a
mutant that this one did not.
"""

import json
import queue
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from tests.mutants.checkout import Checkout, default_python
from tests.mutants.evidence import Choice, Evidence
from tests.mutants.finder import Mutant
from tests.mutants.sample import candidates, chosen
from tests.mutants.trial import KILLS, PLANNED, Trials, as_json

READABLE = click.Path(path_type=Path, exists=True)


@click.command()
@click.option("--seed", default=1, show_default=True)
@click.option("--count", default=60, show_default=True)
@click.option("--repo", type=READABLE, default=Path())
@click.option("--python", type=click.Path(path_type=Path), default=default_python())
@click.option("--contexts", multiple=True, type=READABLE)
@click.option("--exhaustive", is_flag=True, help="Also the tests that only make test-all runs.")
@click.option("--limit", default=60.0, show_default=True, help="Seconds of tests for each mutant.")
@click.option("--jobs", default=1, show_default=True, help="Mutants at a time.")
@click.option("--only", help="The numbers of the mutants to run, such as 3,17.")
@click.option("--again", type=READABLE, help="Keep what is killed in this file.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("build/mutants.json"))
@click.option("--compare", type=READABLE, help="What an old run killed, this one has to kill.")
@click.option("--list", "is_list", is_flag=True, help="Only print the mutants.")
def main(
    seed: int, count: int, repo: Path, python: Path, contexts: tuple[Path, ...], limit: float,
    jobs: int, only: str | None, again: Path | None, output: Path, compare: Path | None, *,
    exhaustive: bool, is_list: bool,
) -> None:  # fmt: skip
    """Plant COUNT mutants that SEED picks, and run the tests that execute each one's line."""
    results = [each for each in read(again) if each["result"] in KILLS] if again else []
    done = {each["key"] for each in results}
    wanted = {int(number) for number in only.split(",")} if only else set(range(1, count + 1))
    numbered = enumerate(chosen(candidates(repo), seed, count), 1)
    picked = [each for each in numbered if each[0] in wanted and each[1].key not in done]
    if is_list:
        for number, mutant in picked:
            click.echo(f"{number:3}  {told(mutant)}")
        return
    markers = "not image" if exhaustive else "not image and not exhaustive"
    files = contexts or (Path("build/contexts"),)
    output.parent.mkdir(parents=True, exist_ok=True)
    for result in tried(picked, repo, python, files, markers, limit, jobs):
        results.append(result | {"exhaustive": exhaustive})
        output.write_text(json.dumps({"seed": seed, "mutants": results}, indent=2) + "\n")
        click.echo(f"{result['number']:3}  {outcome(result)}\n     {result['told']}")
    counts = Counter(result["result"] for result in results)
    click.echo(", ".join(f"{number} {name}" for name, number in sorted(counts.items())))
    if compare:
        lost = no_longer_killed(read(compare), results)
        click.echo(f"{len(lost)} that the old run killed and this one did not.")
        for line in lost:
            click.echo(line)
        sys.exit(1 if lost else 0)


def read(file: Path) -> list[dict[str, Any]]:
    """The results of a run."""
    found: list[dict[str, Any]] = json.loads(file.read_text())["mutants"]
    return found


def tried(
    picked: list[tuple[int, Mutant]], repo: Path, python: Path, contexts: tuple[Path, ...],
    markers: str, limit: float, jobs: int,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Each mutant's result, in their order; ``jobs`` run at a time, each in its own copy."""
    free: queue.SimpleQueue[Trials] = queue.SimpleQueue()

    def one(number: int, mutant: Mutant, choice: Choice) -> dict[str, Any]:
        trials = free.get()
        try:
            verdict = trials.verdict(mutant, choice)
        finally:
            free.put(trials)
        return as_json(number, mutant, verdict) | {"told": told(mutant)}

    with ExitStack() as stack, ThreadPoolExecutor(jobs) as pool:
        copies = [stack.enter_context(Checkout(repo, python)) for _ in range(jobs)]
        evidence = Evidence(contexts, repo, copies[0].collected(markers))
        for checkout in copies:
            free.put(Trials(checkout, evidence, markers, limit))
        choices = [(*each, evidence.choose(each[1], PLANNED * limit)) for each in picked]
        yield from pool.map(lambda each: one(*each), choices)


def told(mutant: Mutant) -> str:
    """The mutant in one line."""
    before, after = (" ".join(text.split()) for text in (mutant.before, mutant.after))
    change = f"{before if len(before) < 60 else before[:57] + '...'}  ->  "
    change += after if len(after) < 60 else after[:57] + "..."
    return f"{mutant.path}:{mutant.line}:{mutant.column}  {mutant.operator}:  {change}"


def outcome(result: dict[str, Any]) -> str:
    """The result in one line."""
    by = f" by {result['by']}" if result["by"] else ""
    left_out = f" ({result['left_out']} tests were not chosen)" if result["left_out"] else ""
    unfit = f"; fails without the mutant, too: {', '.join(result['unfit'])}"
    return f"{result['result']}{by}{left_out}{unfit if result['unfit'] else ''}"


def no_longer_killed(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[str]:
    """The mutants of both runs that only the old one killed, and those that the new one lacks."""
    now = {result["key"]: result for result in new}
    lost = []
    for was in old:
        result = now.get(was["key"])
        if was["result"] in KILLS and (result is None or result["result"] not in KILLS):
            became = outcome(result) if result else "not among the mutants"
            lost.append(f"{was['told']}\n     was {outcome(was)}; is {became}")
    return lost


if __name__ == "__main__":
    main()
