import pytest

from contract.regions import use_aws_region


@pytest.mark.parametrize(
    ("environ", "region"),
    [
        ({}, None),
        ({"AWS_DEFAULT_REGION": "eu-west-1"}, "eu-west-1"),
        ({"AWS_REGION": "", "AWS_DEFAULT_REGION": "eu-west-1"}, "eu-west-1"),
        ({"AWS_REGION": "eu-central-1"}, "eu-central-1"),
        ({"AWS_REGION": "eu-central-1", "AWS_DEFAULT_REGION": "eu-west-1"}, "eu-central-1"),
    ],
)
def test_aws_region_goes_before_what_botocore_reads(
    environ: dict[str, str], region: str | None
) -> None:
    use_aws_region(environ)
    assert environ.get("AWS_DEFAULT_REGION") == region
