"""The Region that the environment names.

AWS's other SDKs, its command line and its services go by ``AWS_REGION``; botocore reads
``AWS_DEFAULT_REGION`` only. https://docs.aws.amazon.com/sdkref/latest/guide/feature-region.html
"""

from collections.abc import MutableMapping


def use_aws_region(environ: MutableMapping[str, str]) -> None:
    """Let ``AWS_REGION``, where it is set, be what botocore reads; for each command, at its start.

    It goes before ``AWS_DEFAULT_REGION``, and both before a profile's Region.
    """
    if region := environ.get("AWS_REGION"):
        environ["AWS_DEFAULT_REGION"] = region
