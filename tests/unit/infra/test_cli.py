import os
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from contract.regions import use_aws_region
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


@pytest.fixture
def no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "nothing"))
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    aws.client.cache_clear()
    yield
    aws.client.cache_clear()


def plan(path: Path, text: str) -> Result:
    path.write_text(text)
    return CliRunner().invoke(main, ["plan", "--config", str(path)])


@pytest.mark.parametrize("profile", ["", "nobody"])
@pytest.mark.usefixtures("no_credentials")
def test_without_credentials_the_file_is_checked_and_the_next_step_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: str
) -> None:
    if profile:
        monkeypatch.setenv("AWS_PROFILE", profile)
    wrong = plan(tmp_path / "prod.toml", 'region = "mars-1"\ncolour = 1\n')
    assert "errors; nothing was called or changed." in wrong.output
    right = plan(
        tmp_path / "prod.toml", 'region = "eu-west-1"\n[parameters]\nPeerCIDR1 = "10.1.0.0/16"\n'
    )
    assert right.exit_code == 1
    first, second = right.output.splitlines()
    assert first.startswith("Error: credentials: ")
    assert "The configuration has no error" in second
    assert "Set AWS_PROFILE, or run `aws configure`" in second


@pytest.mark.usefixtures("no_credentials")
def test_the_region_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert aws.default_region() is None
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    assert aws.default_region() == "us-west-2"
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    use_aws_region(os.environ)  # as the command does at its start
    assert aws.default_region() == "eu-west-1"


def test_what_a_tool_says_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with report.progress(Console(), "image", "the receiver's image") as tell:
        tell("[1/2] STEP [/nothing] of rich's")
    assert "[1/2] STEP [/nothing] of rich's" in capsys.readouterr().out
