import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner, Result

from infra.deploy import aws, functions
from infra.deploy.cli import main
from local import names
from local.environment import aws_environment
from tests.pipeline.infra import moto_cloud
from tests.pipeline.infra.moto_cloud import MotoCloud

REGION = "eu-west-1"
CONFIG = f"""
region = "{REGION}"
[parameters]
PeerCIDR1 = "10.1.0.0/16"
DatastoreID = "{moto_cloud.DATASTORE}"
{{more}}
"""


@dataclass
class Operator:
    """Runs the command as a person does, against one cloud."""

    cloud: MotoCloud
    folder: Path

    def run(self, *arguments: str, answers: str = "") -> Result:
        config = ["--config", str(self.folder / "prod.toml")]
        return CliRunner().invoke(main, [*arguments, *config], input=answers)

    def configure(self, more: str = "") -> None:
        (self.folder / "prod.toml").write_text(CONFIG.format(more=more))

    def container_calls(self) -> list[dict[str, Any]]:
        lines = (self.folder / "bin" / "calls.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def client(self, service: Any) -> Any:
        return boto3.client(service, region_name=REGION)


@pytest.fixture
def operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Operator]:
    with moto_cloud.running() as cloud:
        for name, value in (aws_environment(cloud.url) | {"AWS_DEFAULT_REGION": REGION}).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("PATH", f"{_container_tool(tmp_path)}:{os.environ['PATH']}")
        # The rendered project stays out of this checkout. Without its dependencies, which moto
        # never runs, ten functions of 20 MB are not kept in memory.
        monkeypatch.setattr(functions, "_PROJECTS", tmp_path / "projects")
        monkeypatch.setattr(functions, "APP", _app_without_dependencies(tmp_path))
        aws.client.cache_clear()
        operator = Operator(cloud, tmp_path)
        operator.configure()
        yield operator
        aws.client.cache_clear()
    boto3.DEFAULT_SESSION = None


@pytest.fixture
def existing_vpc(operator: Operator) -> Operator:
    """With moto's own VPC, since moto cannot delete one that CloudFormation made."""
    ec2 = operator.client("ec2")
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    found = ec2.describe_subnets()["Subnets"]
    subnets = ",".join(each["SubnetId"] for each in found[:2])
    operator.configure(
        f'VpcID = "{vpc}"\nPublicSubnetIDs = "{subnets}"\nPrivateSubnetIDs = "{subnets}"\n'
    )
    return operator


def _container_tool(folder: Path) -> Path:
    tool = folder / "bin" / "docker"
    tool.parent.mkdir()
    source = Path(__file__).with_name("container_tool.py")
    tool.write_text(f"#!{sys.executable}\n{source.read_text()}")
    tool.chmod(0o755)
    return tool.parent


def _app_without_dependencies(folder: Path) -> Path:
    copy = folder / "chalice_app"
    ignored = shutil.ignore_patterns(".chalice", "__pycache__")
    shutil.copytree(names.CHALICE_APP, copy, ignore=ignored)
    (copy / "requirements.txt").write_text("")
    return copy
