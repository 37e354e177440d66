"""The receiver's image: which tool builds it, under which tag, and into which repository.

The tag is a digest of what goes into the image. A tag that the repository has is not built again.
"""

import base64
import hashlib
import shutil
import subprocess
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from infra.deploy import aws
from infra.deploy.errors import DeployError
from infra.deploy.templates import REPOSITORY

if TYPE_CHECKING:
    from mypy_boto3_ecr import ECRClient

Tell = Callable[[str], None]
TOOLS = ("docker", "podman", "finch", "buildah")
_DOCKERFILE = "scp/Dockerfile"
_TAG_LENGTH = 16
_TOLD_LINES = 15


@dataclass(frozen=True, slots=True)
class Build:
    """What is built, and the commands for it; ``uri`` is the image's name, with its tag."""

    tool: str
    uri: str
    platform: str
    build_args: Mapping[str, str] = field(default_factory=dict)
    pip_conf: Path | None = None

    @property
    def registry(self) -> str:
        """The host that the tool logs in to."""
        return self.uri.partition("/")[0]

    def login(self) -> list[str]:
        """The password comes by standard input, so that no process list and no log has it."""
        return [self.tool, "login", "--username", "AWS", "--password-stdin", self.registry]

    def build(self) -> list[str]:
        """From the repository's root."""
        arguments = [f"{name}={value}" for name, value in self.build_args.items()]
        options = [each for one in arguments for each in ("--build-arg", one)]
        if self.pip_conf is not None:
            options += ["--secret", f"id=pip.conf,src={self.pip_conf}"]
        if self.tool in {"podman", "buildah"}:
            options += ["--format", "docker"]  # OCI's format has no HEALTHCHECK
        return [
            self.tool, "build", "--platform", self.platform, *options,
            "--file", _DOCKERFILE, "--tag", self.uri, ".",
        ]  # fmt: skip

    def push(self) -> list[str]:
        """To the repository."""
        return [self.tool, "push", self.uri]


def find_tool(which: Callable[[str], str | None] = shutil.which) -> str:
    """The first container tool that is there; raises DeployError if there is none."""
    for tool in TOOLS:
        if which(tool):
            return tool
    raise DeployError(
        f"The image can be built by {', '.join(TOOLS)}; none of them is on the PATH.",
        "Install one, or build and push the image elsewhere (docs/deployment.md).",
    )


def content_tag(root: Path, build_args: Mapping[str, str], platform: str) -> str:
    """A digest of all that goes into the image."""
    digest = hashlib.sha256(repr((sorted(build_args.items()), platform)).encode())
    for path in _inputs(root):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:_TAG_LENGTH]


def _inputs(root: Path) -> Iterator[Path]:
    """The Dockerfile, and what .dockerignore lets through to it."""
    ignore = root / ".dockerignore"
    let_in = [line[1:] for line in ignore.read_text().splitlines() if line.startswith("!")]
    for name in sorted({_DOCKERFILE, *let_in}):
        path = root / name
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (each for each in files if each.is_file() and "__pycache__" not in each.parts)


def is_pushed(ecr: "ECRClient", uri: str) -> bool:
    """Whether the repository has the image."""
    name, _, tag = uri.partition("/")[2].rpartition(":")
    try:
        ecr.describe_images(repositoryName=name, imageIds=[{"imageTag": tag}])
    except ClientError as error:
        if aws.error_code(error) == "ImageNotFoundException":
            return False
        raise
    return True


def push(ecr: "ECRClient", build: Build, tell: Tell) -> None:
    """Log in, build and push; raises DeployError with the last that the tool said."""
    token = ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
    password = base64.b64decode(token).decode().partition(":")[2]
    tell(f"logging in to {build.registry}")
    _run(build.login(), tell, password)
    tell(f"building with {build.tool}")
    _run(build.build(), tell)
    tell("pushing")
    _run(build.push(), tell)


def _run(command: list[str], tell: Tell, secret: str = "") -> None:
    said: deque[str] = deque(maxlen=_TOLD_LINES)
    with subprocess.Popen(  # noqa: S603 - a tool of TOOLS, and words of our own
        command,
        cwd=REPOSITORY,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        if process.stdin is not None:
            process.stdin.write(secret)
            process.stdin.close()
        for line in process.stdout or ():
            if text := line.strip():
                said.append(text)
                tell(text)
    if process.returncode:
        raise DeployError(f"{' '.join(command[:2])} failed:\n  " + "\n  ".join(said))
