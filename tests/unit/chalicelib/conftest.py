"""The stores, the fake service and the stubbed client that several of these tests begin with."""

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from chalicelib.stores import Stores

from tests.unit.chalicelib.builders import FakeHealthImaging, a_manifest, memory_stores


@pytest.fixture
def stores() -> Stores:
    return memory_stores(a_manifest(2))


@pytest.fixture
def service() -> FakeHealthImaging:
    return FakeHealthImaging()


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Any:
    """boto3's client of HealthImaging; ``answers`` stubs what it is answered."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    return boto3.client("medical-imaging", region_name="us-east-1")


@pytest.fixture
def answers(client: Any) -> Iterator[Stubber]:
    with Stubber(client) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()
