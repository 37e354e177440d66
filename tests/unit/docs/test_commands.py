"""docs/operations.md names every command of the operator's command line, and no other."""

import re
from pathlib import Path

import pytest
from chalicelib.operations.command_line import run

PAGE = (Path(__file__).parents[3] / "docs" / "operations.md").read_text()


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
