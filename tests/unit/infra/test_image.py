import shutil
import subprocess
from pathlib import Path

import pytest

from infra.deploy import image
from infra.deploy.errors import DeployError
from infra.deploy.image import Build
from infra.deploy.templates import REPOSITORY

URI = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/store-scp:0123"


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    (tmp_path / "scp" / "store_scp").mkdir(parents=True)
    (tmp_path / "scp" / "Dockerfile").write_text("FROM base")
    (tmp_path / "scp" / "store_scp" / "a.py").write_text("a = 1")
    (tmp_path / ".dockerignore").write_text("*\n!scp/store_scp\n")
    return tmp_path


def test_the_tag_changes_with_what_goes_into_the_image_and_with_nothing_else(
    sources: Path,
) -> None:
    tag = image.content_tag(sources, {}, "linux/amd64")
    (sources / "README.md").write_text("words")
    (sources / "scp" / "store_scp" / "__pycache__").mkdir()
    (sources / "scp" / "store_scp" / "__pycache__" / "a.pyc").write_text("x")
    assert image.content_tag(sources, {}, "linux/amd64") == tag
    others = {
        image.content_tag(sources, {}, "linux/arm64"),
        image.content_tag(sources, {"BASE": "mine"}, "linux/amd64"),
    }
    (sources / "scp" / "store_scp" / "a.py").write_text("a = 2")
    others.add(image.content_tag(sources, {}, "linux/amd64"))
    (sources / "scp" / "store_scp" / "a.py").rename(sources / "scp" / "store_scp" / "b.py")
    others.add(image.content_tag(sources, {}, "linux/amd64"))
    assert len(others | {tag}) == 5


def test_every_source_that_the_dockerfile_copies_is_in_the_digest() -> None:
    inputs = {path.relative_to(REPOSITORY).as_posix() for path in image._inputs(REPOSITORY)}
    dockerfile = (REPOSITORY / "scp" / "Dockerfile").read_text()
    copied = [line.split()[1] for line in dockerfile.splitlines() if line.startswith("COPY ")]
    sources = [name for name in copied if not name.startswith("--from")]
    assert sources
    for name in sources:
        assert any(each == name or each.startswith(f"{name}/") for each in inputs), name


def test_the_first_tool_that_is_there_is_taken() -> None:
    assert image.find_tool(lambda tool: tool if tool in {"finch", "podman"} else None) == "podman"
    with pytest.raises(DeployError, match="docker, podman, finch, buildah"):
        image.find_tool(lambda _: None)


def test_the_commands_of_a_build() -> None:
    build = Build("podman", URI, "linux/arm64", {"BASE": "mine"}, Path("pip.conf"))
    assert build.login() == [
        "podman", "login", "--username", "AWS", "--password-stdin",
        "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
    ]  # fmt: skip
    assert build.build() == [
        "podman", "build", "--platform", "linux/arm64", "--build-arg", "BASE=mine",
        "--secret", "id=pip.conf,src=pip.conf", "--format", "docker",
        "--file", "scp/Dockerfile", "--tag", URI, ".",
    ]  # fmt: skip
    assert build.push() == ["podman", "push", URI]
    assert "--format" not in Build("docker", URI, "linux/amd64").build()


@pytest.mark.parametrize("tool", image.TOOLS)
def test_each_tool_that_is_here_knows_the_options(tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    for command in (
        Build(tool, URI, "linux/amd64").login(),
        Build(tool, URI, "linux/amd64").build(),
    ):
        help_text = subprocess.run(
            [*command[:2], "--help"], capture_output=True, text=True, check=False
        )
        for option in (each for each in command if each.startswith("--")):
            assert option in help_text.stdout + help_text.stderr
