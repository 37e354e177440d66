from collections.abc import Iterator

import pytest

from local import names
from tests.chaos.weather import Endpoint


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "local")
    monkeypatch.setenv("AWS_DEFAULT_REGION", names.REGION)
    with Endpoint("seed") as endpoint:
        yield endpoint
