"""Where a bucket is, as botocore would find it from environment, configuration and its rules."""

import os
import ssl
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import botocore.exceptions as aws
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from botocore.httpsession import get_cert_path
from botocore.session import Session

from store_scp.children import in_a_child
from store_scp.errors import CannotStart

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_HTTPS = 443
_HTTP = 80
_KEY = "key"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A bucket's address: ``path`` ends in ``/``, and an object's key follows it."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    authority: str
    path: str
    region: str


@dataclass(frozen=True, slots=True)
class _Location:
    """An endpoint without what cannot be sent from one process to another."""

    url: str
    region: str
    ca_bundle: str | None


def endpoint_of(bucket: str) -> Endpoint:
    """:func:`resolve` with the environment's session, found out in a process of its own.

    What botocore reads for it takes 20 MB, which would stay with the receiver for good.
    """
    return _endpoint(in_a_child(lambda: _locate(Session(), bucket)))


def resolve(session: Session, bucket: str) -> Endpoint:
    """The bucket's endpoint; raises CannotStart if the configuration gives none.

    Regional, dual-stack and FIPS endpoints, AWS_ENDPOINT_URL(_S3), path or virtual-host style and
    the CA bundle are as boto3 has them. HTTPS_PROXY and its like are not supported: connections
    go to the endpoint itself, in AWS best through a VPC endpoint.
    """
    return _endpoint(_locate(session, bucket))


def _locate(session: Session, bucket: str) -> _Location:
    try:
        request = _prepared_request(session, bucket)
    except (aws.BotoCoreError, ValueError) as error:
        raise CannotStart(f"no S3 endpoint for the bucket: {type(error).__name__}") from None
    bundle = session.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")
    return _Location(str(request.url), _signing_region(request), bundle)


def _endpoint(location: _Location) -> Endpoint:
    url = urlsplit(location.url)
    secure = url.scheme == "https"
    return Endpoint(
        host=url.hostname or "",
        port=url.port or (_HTTPS if secure else _HTTP),
        tls=_tls_context(location.ca_bundle) if secure else None,
        authority=url.netloc,
        path=url.path.removesuffix(_KEY),
        region=location.region,
    )


def _prepared_request(session: Session, bucket: str) -> AWSPreparedRequest:
    """What botocore is about to send for a PutObject; it is stopped from sending it."""
    seen: list[AWSPreparedRequest] = []

    def answer(request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        seen.append(request)
        return AWSResponse(request.url, 200, HTTPHeaders(), _NoBody())

    # These credentials sign only the request that is never sent; signature_version keeps a
    # profile from choosing one whose scope has no region.
    client = cast(
        "S3Client",
        session.create_client(
            "s3",
            aws_access_key_id="unused",
            aws_secret_access_key="unused",  # noqa: S106 - see above
            aws_session_token=None,
            config=Config(signature_version="s3v4"),
        ),
    )
    client.meta.events.register("before-send.s3.PutObject", answer)  # type: ignore[arg-type]
    try:
        client.put_object(Bucket=bucket, Key=_KEY, Body=b"")
    finally:
        client.close()
    return seen[0]


class _NoBody(BytesIO):
    def stream(self) -> "_NoBody":
        return self


def _signing_region(request: AWSPreparedRequest) -> str:
    """From ``AWS4-HMAC-SHA256 Credential=<id>/<date>/<region>/s3/aws4_request, ...``."""
    authorization = request.headers["Authorization"]
    text = authorization.decode() if isinstance(authorization, bytes) else authorization
    return text.split("/")[2]


def _tls_context(bundle: str | None) -> ssl.SSLContext:
    """Trusts what boto3 trusts: the configured bundle, or the one that botocore comes with."""
    try:
        return ssl.create_default_context(cafile=bundle or get_cert_path(True))
    except OSError as error:
        raise CannotStart(f"the CA bundle cannot be used: {error.strerror}") from None
