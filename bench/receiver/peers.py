"""The receivers that are compared, each started as its makers mean it to be fast."""

import functools
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
BUCKET = "bench"
_DRAIN_SECONDS = "5"
# Our default, for all who can be told: 16 KiB, theirs, cost each of them up to a third more.
_MAX_PDU = "131072"
# Without it Debian's DCMTK, which Orthanc uses as well, waits 44 ms for an acknowledgement at each
# image.
_DCMTK_ENVIRONMENT = {"TCP_NODELAY": "1"}
# Debian installs servers where an ordinary user's PATH does not look.
_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin"))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a peer listens and stores; ``s3_url`` is empty for a directory."""

    port: int
    folder: Path
    work: Path
    associations: int
    wire_bytes: int
    s3_url: str = ""
    health_port: int = 0
    ca_bundle: Path | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """How to start a peer; ``ready`` is what it logs once it listens, if it logs anything."""

    arguments: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    ready: str = ""


@dataclass(frozen=True, slots=True)
class Peer:
    """A receiver. A slow one gets a quarter of the images: its cost for each shows as well."""

    name: str
    program: str
    command: Callable[[Place], Command]
    max_associations: int = 300
    slow: bool = False
    dicom: bool = True

    @property
    def is_installed(self) -> bool:
        """Whether its program is on this machine."""
        return find(self.program) is not None


def find(program: str) -> str | None:
    """A program's full path."""
    return shutil.which(program, path=_PATH)


def base_environment() -> dict[str, str]:
    """Nothing of the caller's account, proxies or settings reaches a peer."""
    home = {"HOME": os.environ["HOME"]} if "HOME" in os.environ else {}
    return {"PATH": _PATH, "PYTHONUNBUFFERED": "1", **home}


def _ours(place: Place, checkout: Path = REPOSITORY) -> Command:
    settings = {
        "PYTHONPATH": os.pathsep.join((str(checkout), str(checkout / "scp"))),
        "SCP_BIND_ADDRESS": "127.0.0.1",
        "SCP_PORT": str(place.port),
        "SCP_HEALTH_PORT": str(place.health_port),
        "DRAIN_SECONDS": _DRAIN_SECONDS,
        # No peer waits for the disk before it acknowledges; what that costs is a row of its own.
        "STORAGE_FSYNC": "false",
    }
    sink = {"DICOM_BUCKET": BUCKET} if place.s3_url else {"STORAGE_DIR": str(place.folder)}
    environment = settings | sink | _aws(place)
    return Command([sys.executable, "-m", "store_scp"], environment, ready='"listening"')


def _ours_flushed(place: Place) -> Command:
    command = _ours(place)
    return Command(
        command.arguments, command.environment | {"STORAGE_FSYNC": "true"}, command.ready
    )


def _ours_one_worker(place: Place) -> Command:
    command = _ours(place)
    return Command(command.arguments, command.environment | {"SCP_WORKERS": "1"}, command.ready)


def _dcmtk(place: Place, *options: str) -> Command:
    program = find("storescp") or "storescp"
    arguments = [program, "+B", *options, "-pdu", _MAX_PDU, "-od", str(place.folder)]
    return Command([*arguments, str(place.port)], _DCMTK_ENVIRONMENT)


def _dcmtk_fork(place: Place) -> Command:
    return _dcmtk(place, "--fork")


def _orthanc(place: Place) -> Command:
    configuration = {
        "StorageDirectory": str(place.folder),
        "IndexDirectory": str(place.folder),
        "HttpServerEnabled": False,
        "DicomPort": place.port,
        "DicomAet": "STORESCP",
        # One for each association, for the others would wait; 4 by default.
        "DicomThreadsCount": max(4, place.associations),
        "MaximumPduLength": int(_MAX_PDU),
    }
    path = place.work / "orthanc.json"
    path.write_text(json.dumps(configuration))
    return Command([find("Orthanc") or "Orthanc", str(path)], _DCMTK_ENVIRONMENT)


def _pynetdicom_app(place: Place) -> Command:
    arguments = ["-q", "-aet", "STORESCP", "-od", str(place.folder), str(place.port)]
    return script("pynetdicom_app", arguments)


def _aws_sample(place: Place) -> Command:
    command = script("aws_sample", ["--port", str(place.port), "--bucket", BUCKET])
    return Command(command.arguments, command.environment | _aws(place))


def _raw_tcp(place: Place) -> Command:
    options = {
        "--port": str(place.port),
        "--folder": str(place.folder),
        "--image-bytes": str(place.wire_bytes),
    }
    return script("raw_tcp", [text for option in options.items() for text in option])


def script(module: str, arguments: list[str]) -> Command:
    """A module of this package as a command."""
    environment = {"PYTHONPATH": str(REPOSITORY)}
    return Command([sys.executable, "-m", f"bench.receiver.{module}", *arguments], environment)


def _aws(place: Place) -> dict[str, str]:
    if not place.s3_url:
        return {}
    bundle = {"AWS_CA_BUNDLE": str(place.ca_bundle)} if place.ca_bundle else {}
    return {
        "AWS_ENDPOINT_URL": place.s3_url,
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        **bundle,
    }


def ours_from(checkout: Path, name: str) -> Peer:
    """This receiver as another checkout has it."""
    return Peer(name, sys.executable, functools.partial(_ours, checkout=checkout))


OURS = Peer("this receiver", sys.executable, _ours)
OURS_FLUSHED = Peer("this receiver, flushed", sys.executable, _ours_flushed)
OURS_ONE_WORKER = Peer("this receiver, one worker", sys.executable, _ours_one_worker)
RAW_TCP = Peer("raw TCP to file", sys.executable, _raw_tcp, dicom=False)
DCMTK = Peer("DCMTK storescp +B", "storescp", _dcmtk, max_associations=1)
DCMTK_FORK = Peer("DCMTK storescp +B --fork", "storescp", _dcmtk_fork)
ORTHANC = Peer("Orthanc", "Orthanc", _orthanc, slow=True)
PYNETDICOM_APP = Peer("pynetdicom storescp", sys.executable, _pynetdicom_app, slow=True)
AWS_SAMPLE = Peer("AWS sample's way", sys.executable, _aws_sample, slow=True)
