import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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
PREFIX = "dicom-store-scp-prod"
CONFIG = f"""
region = "{REGION}"
[parameters]
PeerCIDR1 = "10.1.0.0/16"
DatastoreID = "{moto_cloud.DATASTORE}"
{{more}}
"""


def outcomes(output: str) -> dict[str, str]:
    """What up says of each step at its end."""
    return dict(re.findall(r"^(\w+): (created|updated|unchanged)$", output, re.MULTILINE))


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

    def use_motos_vpc(self) -> None:
        """Since moto cannot delete one that CloudFormation made."""
        ec2 = self.client("ec2")
        vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
        subnets = ",".join(each["SubnetId"] for each in ec2.describe_subnets()["Subnets"][:2])
        self.configure(
            f'VpcID = "{vpc}"\nPublicSubnetIDs = "{subnets}"\nPrivateSubnetIDs = "{subnets}"\n'
        )

    def stacks(self) -> dict[str, str]:
        """Their names and statuses."""
        found = self.client("cloudformation").describe_stacks()["Stacks"]
        return {each["StackName"]: each["StackStatus"] for each in found}

    def mappings(self) -> list[dict[str, Any]]:
        found = self.client("lambda").list_event_source_mappings()
        return list(found["EventSourceMappings"])

    def rest_apis(self) -> list[str]:
        return [each["name"] for each in self.client("apigateway").get_rest_apis()["items"]]

    def container_calls(self) -> list[dict[str, Any]]:
        lines = (self.folder / "bin" / "calls.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def client(self, service: Any) -> Any:
        return boto3.client(service, region_name=REGION)


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """With a cloud that is empty when the file begins; its tests are one deployment's story."""
    with an_operator(tmp_path_factory.mktemp("operator")) as one:
        yield one


@contextmanager
def an_operator(folder: Path) -> Iterator[Operator]:
    """With an empty cloud."""
    with moto_cloud.running() as cloud, pytest.MonkeyPatch.context() as patch:
        for name, value in (aws_environment(cloud.url) | {"AWS_DEFAULT_REGION": REGION}).items():
            patch.setenv(name, value)
        patch.setenv("PATH", f"{_container_tool(folder)}:{os.environ['PATH']}")
        # The rendered project stays out of this checkout. Without its dependencies, which moto
        # never runs, ten functions of 20 MB are not kept in memory.
        patch.setattr(functions, "_PROJECTS", folder / "projects")
        patch.setattr(functions, "APP", _app_without_dependencies(folder))
        aws.client.cache_clear()
        operator = Operator(cloud, folder)
        operator.configure()
        yield operator
        aws.client.cache_clear()
    boto3.DEFAULT_SESSION = None


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
