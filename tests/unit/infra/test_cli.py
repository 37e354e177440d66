from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from infra.deploy import aws, report
from infra.deploy.cli import main


@pytest.mark.parametrize("command", ["plan", "up", "status", "render", "down"])
def test_a_wrong_file_is_one_answer_and_no_call(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def called(*_: object) -> None:
        raise AssertionError("AWS was called")

    monkeypatch.setattr(aws, "client", called)
    path = tmp_path / "prod.toml"
    path.write_text('region = "mars-1"\ncolour = 1\n[parameters]\nPeerCIDR1 = "everybody"\n')
    result = CliRunner().invoke(main, [command, "--config", str(path)])
    assert result.exit_code == 1
    assert "The configuration has 4 errors; nothing was called or changed." in result.output
    assert "Traceback" not in result.output


def test_an_account_that_cannot_be_asked_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(aws, "_CONFIG", None)
    aws.client.cache_clear()
    path = tmp_path / "prod.toml"
    path.write_text('region = "eu-west-1"\n[parameters]\nPeerCIDR1 = "10.1.0.0/16"\n')
    result = CliRunner().invoke(main, ["plan", "--config", str(path)])
    aws.client.cache_clear()
    assert result.exit_code == 1
    assert result.output.startswith("Error: credentials: Could not connect to the endpoint")
    assert result.output.count("\n") == 1


def test_what_a_tool_says_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with report.progress(Console(), "image", "the receiver's image") as tell:
        tell("[1/2] STEP [/nothing] of rich's")
    assert "[1/2] STEP [/nothing] of rich's" in capsys.readouterr().out
