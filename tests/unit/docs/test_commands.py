"""docs/operations.md names every command of the operator's command line, and no other.

docs/runbook.md uses these commands, and links to its own headings.
"""

import re
from pathlib import Path

import pytest
from chalicelib.operations.command_line import run

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "operations.md").read_text()
RUNBOOK = (DOCS / "runbook.md").read_text()


def test_the_table_of_commands_has_each_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(["--help"])
    known = set(re.findall(r"^    ([a-z-]+)(?:  |$)", capsys.readouterr().out, re.MULTILINE))
    table = PAGE.partition("| command | does |")[2].partition("\n\n")[0]
    named = {
        command.split()[0]
        for line in table.splitlines()[2:]
        for command in re.findall(r"`([^`]+)`", line.split("|")[1])
    }
    assert named == known


@pytest.mark.parametrize("options", re.findall(r"^\| (`[^|]+`) \|", PAGE, re.MULTILINE))
def test_an_option_in_the_table_is_one_of_its_command(
    options: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in re.findall(r"`([a-z][a-z-]* [^`]*)`", options):
        with pytest.raises(SystemExit):
            run([command.split()[0], "--help"])
        known = capsys.readouterr().out
        for option in re.findall(r"--[a-z-]+", command):
            assert option in known, command


USED = re.findall(r"^ops ([a-z].*)$|`ops ([a-z][^`]*)`", RUNBOOK, re.MULTILINE)


@pytest.mark.parametrize("line", sorted(set(USED)))
def test_a_command_of_the_runbook_is_one_with_these_options(
    line: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    command = "".join(line)
    with pytest.raises(SystemExit):
        run([command.split()[0], "--help"])
    known = capsys.readouterr().out
    for option in re.findall(r"--[a-z-]+", command):
        assert option in known, command


def anchor(heading: str) -> str:
    """As GitHub makes it: lower case, no punctuation, hyphens for spaces."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_the_runbooks_links_lead_to_its_headings() -> None:
    headings = {anchor(each) for each in re.findall(r"^#+ (.+)$", RUNBOOK, re.MULTILINE)}
    assert set(re.findall(r"\(#([^)]+)\)", RUNBOOK)) <= headings


def test_every_situation_of_the_runbook_says_where_to_look_what_to_do_and_what_never() -> None:
    for situation in re.split(r"^### ", RUNBOOK, flags=re.MULTILINE)[1:]:
        title = situation.partition("\n")[0]
        parts = re.findall(r"^\*\*(Look|Do|Never)\*\*", situation, re.MULTILINE)
        assert parts == ["Look", "Do", "Never"], title
        assert f"[{title}](#{anchor(title)})" in RUNBOOK.partition("\n## Receiver")[0], title
