"""The installer with pip itself, against a package index on a loopback port."""

import base64
import hashlib
import io
import os
import subprocess
import sys
import threading
import venv
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

INSTALL = Path(__file__).parents[2] / "requirements" / "install.py"
# More than the installer hands to pip at a time.
NAMES = [f"package-{number:02}" for number in range(14)]


def wheel(name: str) -> bytes:
    """A wheel with one empty module."""
    module = name.replace("-", "_")
    info = f"{module}-1.0.dist-info"
    files = {
        f"{module}.py": b"",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(body).digest()).decode()[:-1]},"
        for path, body in files.items()
    ]
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,"]).encode()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        for path, body in files.items():
            opened.writestr(zipfile.ZipInfo(path), body)
    return archive.getvalue()


WHEELS = {f"{name.replace('-', '_')}-1.0-py3-none-any.whl": wheel(name) for name in NAMES}


@dataclass
class Index:
    """A simple index (PEP 503); ``broken``: what answers 404 for now."""

    url: str = ""
    broken: set[str] = field(default_factory=set)
    served: Counter[str] = field(default_factory=Counter)


class _Handler(BaseHTTPRequestHandler):
    index: Index

    def do_GET(self) -> None:
        name = self.path.strip("/").rpartition("/")[2]
        if name in WHEELS and name not in self.index.broken:
            self.index.served[name] += 1
            self._answer(200, "application/octet-stream", WHEELS[name])
        elif name in NAMES:
            file = f"{name.replace('-', '_')}-1.0-py3-none-any.whl"
            self._answer(200, "text/html", f'<a href="/files/{file}">{file}</a>'.encode())
        else:
            self._answer(404, "text/plain", b"")

    def _answer(self, status: int, media_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def index() -> Iterator[Index]:
    state = Index()
    handler = type("Handler", (_Handler,), {"index": state})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        state.url = f"http://127.0.0.1:{server.server_port}/simple/"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield state
        server.shutdown()
        thread.join()


def lock(folder: Path) -> Path:
    file = folder / "lock.txt"
    hashes = (hashlib.sha256(body).hexdigest() for body in WHEELS.values())
    lines = zip(NAMES, hashes, strict=True)
    file.write_text("".join(f"{name}==1.0 \\\n    --hash=sha256:{each}\n" for name, each in lines))
    return file


def install(folder: Path, index: Index) -> subprocess.CompletedProcess[str]:
    """Without pip's cache and configuration, as in a container."""
    known = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    pip = {"PIP_INDEX_URL": index.url, "PIP_NO_CACHE_DIR": "1", "PIP_CONFIG_FILE": os.devnull}
    arguments = [str(folder / "venv"), str(lock(folder)), "--label", "the packages"]
    return subprocess.run(
        [sys.executable, str(INSTALL), *arguments],
        env=known | pip | {"PIP_RETRIES": "0"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_after_a_download_that_failed_the_next_run_goes_on(tmp_path: Path, index: Index) -> None:
    last = list(WHEELS)[-1]
    index.broken = {last}
    failed = install(tmp_path, index)
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-2].startswith("The package index answered 404 for ")
    assert "Traceback" not in failed.stderr
    index.broken = set()
    again = install(tmp_path, index)
    assert again.returncode == 0, again.stderr
    assert "Installed the packages: 14 packages" in again.stderr
    # The first dozen were installed before the failure, and nobody asked for them again.
    assert [index.served[each] for each in list(WHEELS)[:12]] == [1] * 12
    found = sorted(each.name for each in (tmp_path / "venv").rglob("package_[0-9]*.py"))
    assert len(found) == len(NAMES)


def test_what_an_interrupted_run_left_of_an_environment_is_made_anew(
    tmp_path: Path, index: Index
) -> None:
    venv.create(tmp_path / "venv", with_pip=False)  # interrupted before pip was there
    done = install(tmp_path, index)
    assert done.returncode == 0, done.stderr
