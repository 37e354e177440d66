"""The container image: what is in it, and that it does its work under a task's restrictions."""

import json
import os
import re
import socket
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import boto3
import pydicom
import pytest

from contract.keys import INSTANCES_PREFIX
from local import names
from local.cloud import Cloud, CloudOptions
from local.environment import aws_environment
from local.follow import RestClient
from tests.infra.containers import IMAGE, Container, Podman
from tests.interop.programs import sample, succeed
from tests.pipeline.local.support import FAST, settle
from tests.protocol.peer import Peer
from tests.protocol.receiver import REPOSITORY
from tests.protocol.vitals import CT, GOOD, GOOD_INSTANCE
from tests.unit.store_scp.builders import CT_IMAGE

pytestmark = [pytest.mark.image, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def bare() -> Iterator[Podman]:
    with (
        tempfile.TemporaryDirectory(prefix="store-scp-image-") as folder,
        Podman(Path(folder)) as empty,
    ):
        yield empty


@pytest.fixture(scope="module")
def base(bare: Podman) -> str:
    """$IMAGE_BASE, or a stand-in for the base that the image is pinned to."""
    return os.environ.get("IMAGE_BASE") or bare.stand_in()


@pytest.fixture(scope="module")
def podman(bare: Podman, base: str) -> Podman:
    """With the image."""
    bare.build(base)
    return bare


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with Cloud(CloudOptions(emulator=FAST, lambda_settings={"START_RATE": "100"})) as running:
        yield running


def free_port() -> str:
    """The health check has to know its port, which so cannot be 0."""
    with socket.create_server(("127.0.0.1", 0)) as scout:
        return str(scout.getsockname()[1])


def test_it_runs_as_a_number_without_a_name_and_says_what_it_is(podman: Podman) -> None:
    config = json.loads(podman.succeed("image", "inspect", IMAGE))[0]["Config"]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["/app/venv/bin/python", "-m", "store_scp"]
    assert config["StopSignal"] == "SIGTERM"
    assert config["ExposedPorts"].keys() == {"11112/tcp", "8080/tcp"}
    assert config["Volumes"].keys() == {"/app/storage"}
    labels = {name.rpartition("image.")[2]: text for name, text in config["Labels"].items()}
    assert labels.keys() >= {"title", "description", "licenses", "revision", "base.name"}
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert labels["version"] == project["version"]


def test_it_has_no_pip_no_compiler_and_nothing_to_download_with(podman: Podman) -> None:
    program = """if True:
        import importlib.util, shutil
        modules = [each for each in ("pip", "ensurepip", "setuptools", "cyclonedx")
                   if importlib.util.find_spec(each)]
        print(modules, [each for each in ("pip", "pip3", "gcc", "cc", "g++", "clang", "make",
                                          "curl", "wget", "git") if shutil.which(each)])
        """
    assert podman.python(program) == "[] []\n"


def test_its_bill_of_materials_is_what_the_lock_file_pins(podman: Podman) -> None:
    bill = json.loads(podman.python("print(open('/app/sbom.cdx.json').read())"))
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "healthimaging-store-scp"
    pins = re.findall(r"^([\w.-]+)==(\S+)", lock_file(), re.MULTILINE)
    listed = {(each["name"].replace("_", "-"), each["version"]) for each in bill["components"]}
    assert listed == set(pins)


def lock_file() -> str:
    return (REPOSITORY / "scp" / "requirements.txt").read_text()


def test_every_source_is_compiled_and_nothing_of_the_checkouts_is(podman: Podman) -> None:
    program = """if True:
        import importlib.util, pathlib
        app = pathlib.Path("/app")
        compiled = {importlib.util.cache_from_source(each) for each in app.rglob("*.py")}
        print(compiled ^ {str(each) for each in app.rglob("*.pyc")})
        """
    assert podman.python(program) == "set()\n"


def test_the_same_sources_make_the_same_layers(podman: Podman, base: str) -> None:
    podman.build(base, "localhost/again", "--no-cache")
    assert layers(podman, "localhost/again") == layers(podman, IMAGE)


def layers(podman: Podman, image: str) -> list[str]:
    found: list[str] = json.loads(podman.succeed("image", "inspect", image))[0]["RootFS"]["Layers"]
    return found


def test_an_image_sent_to_it_is_imported(podman: Podman, cloud: Cloud) -> None:
    file = sample("CT_small.dcm")
    environment = aws_environment(cloud.aws_url) | {
        "DICOM_BUCKET": names.DICOM_BUCKET,
        "BATCH_TABLE": "DicomBatchRecordTable",
        "BATCH_QUIET_SECONDS": "1",
        "SCP_HEALTH_PORT": free_port(),
    }
    with Container(podman, "to-s3", **environment) as receiver:
        succeed("storescu", "-aec", "STORESCP", "127.0.0.1", str(receiver.port), file)
        uid = str(pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID)
        ledger = settle(RestClient(cloud.rest_url), {uid})
        assert ledger.instances[uid]["state"] == "IMPORTED"
        podman.succeed("healthcheck", "run", "to-s3")
    listed = boto3.client("s3").list_objects_v2(Bucket=names.DICOM_BUCKET, Prefix=INSTANCES_PREFIX)
    assert [each["Key"].rpartition("/")[2] for each in listed["Contents"]] == [f"{uid}.dcm"]


def test_sigterm_drains_it_and_it_stores_into_its_volume(podman: Podman) -> None:
    with Container(podman, "to-volume") as receiver, Peer(receiver.port, CT) as peer:
        peer.start_store(CT_IMAGE, GOOD_INSTANCE, GOOD[:60])
        receiver.terminate()
        receiver.wait_for("stopping")
        assert peer.finish_store(GOOD[60:]).status == 0x0000
        stored = "open('/app/storage/1.2.3/1.2.3.3/1.2.3.4.dcm', 'rb').read().hex()"
        python = ("/app/venv/bin/python", "-c", f"print({stored})")
        assert bytes.fromhex(podman.succeed("exec", "to-volume", *python)).endswith(GOOD)
        peer.release()
        peer.vanish()
        receiver.wait_for("stopped")
