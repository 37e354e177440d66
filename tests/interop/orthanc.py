"""Orthanc, as its package installs it, driven over its REST API."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3

from tests.interop.archives import free_port, started, wait_for_port
from tests.interop.programs import find

_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Orthanc:
    """A running one."""

    base: str
    pool: urllib3.PoolManager

    def upload(self, part10: bytes) -> str:
        """The instance's id."""
        response = self._post("/instances", part10)
        assert response.status == 200, response.data
        return str(response.json()["ID"])

    def echo(self, modality: str) -> bool:
        """C-ECHO; whether it was answered."""
        return self._post(f"/modalities/{modality}/echo", b"{}").status == 200

    def store(self, modality: str, instances: list[str]) -> Mapping[str, Any]:
        """C-STORE them on one association; what Orthanc says of it."""
        body = json.dumps({"Resources": instances, "Synchronous": True})
        response = self._post(f"/modalities/{modality}/store", body.encode())
        assert response.status == 200, response.data
        return dict(response.json())

    def _post(self, path: str, body: bytes) -> urllib3.BaseHTTPResponse:
        return self.pool.request("POST", self.base + path, body=body)


@contextmanager
def orthanc(folder: Path, modalities: Mapping[str, object], **more: object) -> Iterator[Orthanc]:
    """Start it without a DICOM port of its own; ``modalities`` are those it knows."""
    port = free_port()
    settings = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [],
        "HttpPort": port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomServerEnabled": False,
        "DicomModalities": modalities,
        "OverwriteInstances": True,
        **more,
    }
    configuration = folder / "orthanc.json"
    configuration.write_text(json.dumps(settings))
    with (
        (folder / "log").open("wb") as output,
        started([find("Orthanc"), str(configuration)], output),
        urllib3.PoolManager(timeout=_SECONDS, retries=False) as pool,
    ):
        wait_for_port(port)
        yield Orthanc(f"http://127.0.0.1:{port}", pool)
