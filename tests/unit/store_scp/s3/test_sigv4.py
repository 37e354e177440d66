"""Our signature is botocore's, whatever is signed."""

import string

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials, ReadOnlyCredentials
from hypothesis import given
from hypothesis import strategies as st
from store_scp.s3.endpoint import Endpoint
from store_scp.s3.requests import ObjectRequest, Request, put_object

from contract.checksums import Checksum

ENDPOINT = Endpoint("h", 443, None, "b.s3.eu-west-1.amazonaws.com", "/", "eu-west-1")
PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E))
TOKEN = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1)
NAMES = st.text(string.ascii_lowercase + string.digits + "-", min_size=1)
KEYS = st.text(st.characters(codec="utf-8"), min_size=1)
DATES = st.datetimes().map(lambda when: f"{when.year:04d}{when:%m%dT%H%M%SZ}")


def botocore_signs(
    method: str, target: str, headers: dict[str, str], credentials: Credentials
) -> str:
    request = AWSRequest(method, f"https://{headers['host']}{target}", headers)
    request.context["client_config"] = Config(s3={"payload_signing_enabled": False})
    request.context["timestamp"] = headers["x-amz-date"]
    auth = S3SigV4Auth(credentials, "s3", ENDPOINT.region)
    canonical = auth.canonical_request(request)
    text = auth.string_to_sign(request, canonical)
    return f"{auth.scope(request)} {auth.signature(text, request)}"


def check(request: Request, credentials: ReadOnlyCredentials, timestamp: str) -> None:
    head = request.head(ENDPOINT, credentials, timestamp).decode()
    (first, *lines) = head.removesuffix("\r\n\r\n").split("\r\n")
    method, target, _ = first.split(" ")
    headers = dict(line.split(": ", 1) for line in lines)
    assert headers.get("x-amz-security-token") == (credentials.token or None)
    authorization = headers.pop("authorization")
    del headers["content-length"]
    theirs = Credentials("AKID", str(credentials.secret_key), credentials.token)
    scope, signature = botocore_signs(method, target, headers, theirs).split(" ")
    names = ";".join(sorted(headers))
    assert authorization == (
        f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={names}, Signature={signature}"
    )


@given(KEYS, st.dictionaries(NAMES, PRINTABLE), st.none() | TOKEN, TOKEN, DATES)
def test_objects_are_signed_as_botocore_does(
    key: str, metadata: dict[str, str], token: str | None, secret: str, timestamp: str
) -> None:
    wanted = ObjectRequest(key, "application/dicom", metadata)
    request = put_object(wanted, [b"1"], Checksum.of(b"1"), if_none_match=True)
    check(request, ReadOnlyCredentials("AKID", secret, token), timestamp)


@given(KEYS, st.dictionaries(NAMES, KEYS | st.just("")), DATES)
def test_queries_are_signed_as_botocore_does(
    key: str, query: dict[str, str], timestamp: str
) -> None:
    check(Request("POST", key, query), ReadOnlyCredentials("AKID", "secret", None), timestamp)
