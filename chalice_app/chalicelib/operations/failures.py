"""Errors as an operator reads them, and which of them end a run over many things."""

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    SSOError,
    TokenRetrievalError,
)

from chalicelib.aws import error_code
from chalicelib.logs import describe
from contract.errors import ProductError

# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
_CREDENTIAL_CODES = frozenset(
    {
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "InvalidToken",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
        "UnrecognizedClientException",
    }
)
_NO_CREDENTIALS = (
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    SSOError,
    TokenRetrievalError,
)
# What a call to AWS is known to raise.
FAILURES = (ProductError, ClientError, BotoCoreError)
INTERRUPTED = "interrupted"


def in_words(error: BaseException) -> str:
    """What happened. Of an error that nobody foresaw, not its message: that may be any text."""
    if isinstance(error, ClientError):
        message = error.response.get("Error", {}).get("Message", "")
        return f"AWS refuses {error.operation_name}: {error_code(error)}: {message}"
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, ProductError | BotoCoreError):  # no Region, no such profile
        return str(error)
    known = describe(error)
    return f"{known['error']} at {known['where']}"


def is_of_credentials(error: BaseException) -> bool:
    """Whether AWS takes no call with the credentials there are, or there are none.

    Also where that is called ServiceUnavailable, since a Lambda gets new ones by itself.
    """
    if isinstance(error, ProductError):
        return error.__cause__ is not None and is_of_credentials(error.__cause__)
    if isinstance(error, ClientError):
        return error_code(error) in _CREDENTIAL_CODES
    return isinstance(error, _NO_CREDENTIALS)
