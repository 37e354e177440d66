"""The root of the product's errors, and the contract's own branch of it.

::

    ProductError
    +-- ContractError (also ValueError)
        +-- InvalidUid
        +-- InvalidAeTitle
        +-- InvalidChecksum
        +-- InvalidKey
        +-- InvalidMetadata
        +-- InvalidManifest
        +-- HeaderUnreadable    contract.header
        |   +-- HeaderIncomplete
        +-- CannotInflate       contract.inflated

The receiver (``store_scp.errors``) and the Lambdas (``chalicelib.errors``) add their branches.
"""


class ProductError(Exception):
    """Anything this product raises on purpose."""


class ContractError(ProductError, ValueError):
    """A value is not what the rooms agreed on; the message never repeats the value."""


class InvalidUid(ContractError):
    """A text is no DICOM UID (PS3.5 9.1)."""


class InvalidAeTitle(ContractError):
    """A text is no application entity title (PS3.5 6.2, VR AE)."""


class InvalidChecksum(ContractError):
    """A text is no ``ALGORITHM:base64`` checksum."""


class InvalidKey(ContractError):
    """An S3 key or batch id does not follow the S3 contract."""


class InvalidMetadata(ContractError):
    """An instance object's S3 user metadata is incomplete or malformed."""


class InvalidManifest(ContractError):
    """A batch manifest cannot be read."""
