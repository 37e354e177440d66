"""The endpoint is where botocore would send to, for every way the environment can say it."""

import os
from pathlib import Path

import pytest
from botocore.session import Session
from store_scp.errors import CannotStart
from store_scp.s3.endpoint import resolve


@pytest.fixture(autouse=True)
def no_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


REGION = {"AWS_DEFAULT_REGION": "eu-central-1"}
LOOPBACK = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9000"}


@pytest.mark.parametrize(
    ("environment", "bucket", "authority", "path"),
    [
        (REGION, "bucket", "bucket.s3.eu-central-1.amazonaws.com", "/"),
        (REGION, "my.bucket", "s3.eu-central-1.amazonaws.com", "/my.bucket/"),
        (
            {**REGION, "AWS_USE_DUALSTACK_ENDPOINT": "true"},
            "bucket",
            "bucket.s3.dualstack.eu-central-1.amazonaws.com",
            "/",
        ),
        (
            {"AWS_DEFAULT_REGION": "us-gov-west-1", "AWS_USE_FIPS_ENDPOINT": "true"},
            "bucket",
            "bucket.s3-fips.us-gov-west-1.amazonaws.com",
            "/",
        ),
        (
            {"AWS_DEFAULT_REGION": "cn-north-1"},
            "bucket",
            "bucket.s3.cn-north-1.amazonaws.com.cn",
            "/",
        ),
        ({**REGION, **LOOPBACK}, "bucket", "127.0.0.1:9000", "/bucket/"),
        (
            {**REGION, **LOOPBACK, "AWS_ENDPOINT_URL_S3": "https://store.example:8443/base"},
            "bucket",
            "store.example:8443",
            "/base/bucket/",
        ),
    ],
)
def test_the_environment_says_where_the_bucket_is(
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    bucket: str,
    authority: str,
    path: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    endpoint = resolve(Session(), bucket)
    assert (endpoint.authority, endpoint.path) == (authority, path)
    assert endpoint.region == environment["AWS_DEFAULT_REGION"]
    host, _, port = authority.partition(":")
    assert (endpoint.host, endpoint.port) == (host, int(port or 443))
    assert (endpoint.tls is None) == (authority == "127.0.0.1:9000")


def test_a_profile_may_ask_for_path_style(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config").write_text(
        "[default]\nregion = eu-west-1\ns3 =\n    addressing_style = path\n"
    )
    endpoint = resolve(Session(), "bucket")
    assert endpoint.authority == "s3.eu-west-1.amazonaws.com"
    assert (endpoint.path, endpoint.region) == ("/bucket/", "eu-west-1")


@pytest.mark.parametrize(
    ("environment", "bucket"),
    [
        (REGION, "No_Bucket!"),
        ({"AWS_DEFAULT_REGION": "no region"}, "bucket"),
        ({**REGION, "AWS_ENDPOINT_URL": "no-url"}, "bucket"),
        ({**REGION, "AWS_PROFILE": "missing"}, "bucket"),
    ],
)
def test_an_environment_that_gives_no_endpoint_is_said_at_start(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], bucket: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(CannotStart, match="no S3 endpoint"):
        resolve(Session(), bucket)


@pytest.mark.parametrize("name", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
def test_a_ca_bundle_that_cannot_be_used_is_said_at_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv(name, str(tmp_path / "missing.pem"))
    with pytest.raises(CannotStart, match="CA bundle"):
        resolve(Session(), "bucket")
