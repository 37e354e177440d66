"""Real S3 engines as child processes on loopback; each test bucket is made by boto3.

MiniStack verifies checksums and rclone signatures; moto does neither, but is what `local/` runs.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
from moto.server import ThreadedMotoServer

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ACCESS_KEY = "access"
SECRET_KEY = "not-a-secret"  # noqa: S105 - the engines' own
BUCKET = "bucket"

# MiniStack reckons checksums in Python, a second for 4 MiB, and takes parts of any size.
SHORT_PART = 128 * 1024

_START_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Engine:
    """A running engine with an empty bucket."""

    name: str
    url: str
    # S3 takes no shorter one, but for the last.
    part_bytes: int = 5 * 1024 * 1024

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def client(self) -> "S3Client":
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name="us-east-1",
        )

    def read(self, key: str) -> bytes:
        client = self.client()
        try:
            return client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        finally:
            client.close()

    def names(self) -> list[str]:
        client = self.client()
        try:
            listed = client.list_objects_v2(Bucket=BUCKET).get("Contents", [])
        finally:
            client.close()
        return [each["Key"] for each in listed]


@contextmanager
def moto() -> Iterator[Engine]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield _with_bucket(Engine("moto", f"http://{host}:{port}"))
    finally:
        server.stop()


@contextmanager
def ministack() -> Iterator[Engine]:
    """Skips the test where it is not installed: it has a virtual environment of its own."""
    program = Path(sys.prefix) / "ministack" / "bin" / "ministack"
    if not program.exists():
        pytest.skip("MiniStack is not installed: run make test, which installs it")
    port = _free_port()
    place = {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port)}
    with _running([str(program)], port, place):
        yield _with_bucket(Engine("ministack", f"http://127.0.0.1:{port}", SHORT_PART))


@contextmanager
def rclone(directory: Path) -> Iterator[Engine]:
    program = shutil.which("rclone", path=str(Path(sys.executable).parent))
    assert program is not None
    port = _free_port()
    address, key = f"127.0.0.1:{port}", f"{ACCESS_KEY},{SECRET_KEY}"
    command = [program, "serve", "s3", "--addr", address, "--auth-key", key, str(directory)]
    with _running(command, port, {"RCLONE_CONFIG": str(directory / ".none")}):
        yield _with_bucket(Engine("rclone", f"http://{address}"))


def _with_bucket(engine: Engine) -> Engine:
    client = engine.client()
    client.create_bucket(Bucket=BUCKET)
    client.close()
    return engine


@contextmanager
def _running(command: list[str], port: int, environment: Mapping[str, str]) -> Iterator[None]:
    process = subprocess.Popen(
        command,
        env={"PATH": os.defpath, "HOME": "/nonexistent", **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(process, port)
        yield
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(process: "subprocess.Popen[bytes]", port: int) -> None:
    """Until the port answers: neither engine says when it is ready."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, "the engine ended"
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except ConnectionRefusedError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("the engine does not listen")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
