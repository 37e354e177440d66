"""``python -m tests.mutants.contexts``: record which test executes which line of the product.

The tests run in a copy of the checkout, as ``make test`` runs them: what may share the machine two
files at a time, then one by one what is marked ``alone``. The result is coverage's data file with
the tests' names as contexts, and beside it FILE.tests: each test's seconds and shared fixtures.
"""

import os
import shutil
import sys
from pathlib import Path

import click

from tests.mutants.checkout import Checkout, default_python

OPTIONS = [
    "-p", "no:cacheprovider", "-q",
    "--cov", "--cov-config=tests/mutants/coveragerc", "--cov-context=test", "--cov-report=",
    "--cov-append",
]  # fmt: skip
TOGETHER = ["--numprocesses=2", "--dist=loadfile"]
HOURS = 3


@click.command()
@click.argument("tests", nargs=-1)
@click.option("--repo", type=click.Path(path_type=Path, exists=True), default=Path())
@click.option("--python", type=click.Path(path_type=Path), default=default_python())
@click.option("--exhaustive", is_flag=True, help="Also the tests that only make test-all runs.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("build/contexts"))
def main(
    tests: tuple[str, ...], repo: Path, python: Path, output: Path, *, exhaustive: bool
) -> None:
    """Run TESTS (all, if none are named) and write OUTPUT and OUTPUT.tests."""
    kept = "not image" if exhaustive else "not image and not exhaustive"
    output.parent.mkdir(parents=True, exist_ok=True)
    listed = output.with_name(f"{output.name}.tests")
    listed.unlink(missing_ok=True)
    os.environ["MUTANTS_TESTS"] = str(listed.absolute())
    failed = False
    with Checkout(repo, python) as checkout:
        for part in ([*TOGETHER, "-m", f"{kept} and not alone"], ["-m", f"{kept} and alone"]):
            run = checkout.pytest([*OPTIONS, *part], tests or ["tests"], HOURS * 3600)
            click.echo(run.output)
            failed |= run.code not in (0, 5)  # 5: there is no such test
        shutil.copy(checkout.path / ".coverage", output)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
