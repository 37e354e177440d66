import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.archives import Archive, witness
from tests.protocol.receiver import REPOSITORY, ReceiverProcess
from tests.protocol.shared import SharedReceivers, receivers

__all__ = ["receivers"]  # a fixture

_COMMANDS = re.compile(r"```sh\n(openssl req -x509 .*?)```", re.DOTALL)
# A certificate with an RSA key beside those: DCMTK's BCP 195 profiles know no other in TLS 1.2.
_RSA = """
openssl req -new -newkey rsa:2048 -noenc -subj /CN=rsa -keyout rsa.key -out rsa.csr
openssl x509 -req -in rsa.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -out rsa.pem
"""


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    with witness(tmp_path_factory.mktemp("witness")) as archive:
        yield archive


@pytest.fixture
def receiver(receivers: SharedReceivers) -> Iterator[ReceiverProcess]:
    """A receiver with the default settings and a directory."""
    with receivers.using({}, stores=True) as process:
        yield process


@pytest.fixture
def ours(receiver: ReceiverProcess) -> Archive:
    return Archive(receiver.port, receiver.storage)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands of docs/access.md make, and one with an RSA key."""
    directory = tmp_path_factory.mktemp("certificates")
    page = (REPOSITORY / "docs" / "access.md").read_text()
    script = _COMMANDS.findall(page)[0] + _RSA
    subprocess.run(["sh", "-ec", script], cwd=directory, check=True, capture_output=True)
    return directory
