"""AWS_REGION alone says in which Region every command works."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.protocol.peer import Peer
from tests.protocol.receiver import REPOSITORY, ReceiverProcess
from tests.protocol.vitals import CT, GOOD, until
from tests.unit.store_scp.builders import CT_IMAGE

REGION = "eu-west-2"
_SCOPE = re.compile(r"Credential=[^/]+/\d+/([^/]+)/([^/]+)/")


@dataclass
class Refusing:
    """An AWS that refuses every request, and remembers the Region it was signed for."""

    signed: set[tuple[str, str]] = field(default_factory=set)
    environment: dict[str, str] = field(default_factory=dict)


@contextmanager
def refusing_aws() -> Iterator[Refusing]:
    aws = Refusing()

    class Handler(BaseHTTPRequestHandler):
        def _refuse(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            if scope := _SCOPE.search(self.headers.get("Authorization", "")):
                aws.signed.add((scope[2], scope[1]))
            self.send_response(400)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _refuse  # noqa: N815 - the library's

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        aws.environment = {
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_REGION": REGION,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        }
        yield aws
        server.shutdown()


def test_the_receiver_signs_for_it_to_s3_and_dynamodb() -> None:
    with refusing_aws() as aws:
        settings = {"DICOM_BUCKET": "bucket", "BATCH_TABLE": "batches", "DIMSE_TIMEOUT": "10"}
        with ReceiverProcess(**settings, **aws.environment) as process:
            with Peer(process.port, CT) as peer:
                assert peer.store(GOOD, CT_IMAGE, "1.2.3.4").status == 0xA700
            until(lambda: len(aws.signed) == 2, "a service was not asked")
    assert aws.signed == {("s3", REGION), ("dynamodb", REGION)}


@pytest.mark.parametrize(
    ("command", "service"),
    [
        (["chalicelib.operations", "batch", "20261202T120000Z-0123456789abcdef"], "dynamodb"),
        (["infra.deploy", "plan", "--config", "deployment.toml"], "sts"),
    ],
)
def test_an_operators_command_signs_for_it(
    command: list[str], service: str, tmp_path: Path
) -> None:
    path = f"{REPOSITORY}:{REPOSITORY / 'chalice_app'}"
    lambdas = {
        "DICOM_BUCKET": "bucket",
        "RESULTS_BUCKET": "results",
        "DATASTORE_ID": "0123456789abcdef" * 2,
        "DATA_ACCESS_ROLE_ARN": "arn:aws:iam::123456789012:role/import",
    }
    (tmp_path / "deployment.toml").write_text('[parameters]\nPeerCIDR1 = "10.1.0.0/16"\n')
    with refusing_aws() as aws:
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": path, **lambdas, **aws.environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert aws.signed == {(service, REGION)}, done.stderr
