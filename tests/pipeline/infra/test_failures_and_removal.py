"""The deploy command against moto: what fails on the way, what down removes, and what it keeps.

One deployment, from a failure at its first step to its end: the tests follow each other.
"""

import pytest

from infra.deploy.steps import STEPS
from infra.deploy.templates import NAMES
from tests.pipeline.infra.conftest import PREFIX, Operator
from tests.pipeline.infra.failures import fail_at, goes_on

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.no_cover,  # moto's CloudFormation takes twice as long under the tracer
    pytest.mark.filterwarnings("ignore:Tried to parse AWS:UserWarning"),
]
# The first and the last stack, Chalice, and the container tool. test_every_failure.py has all.
FAILING = {"network", "functions", "image", "monitoring"}


@pytest.fixture(scope="module")
def deployed(operator: Operator) -> Operator:
    """After a failure at some of the steps, one after the other."""
    operator.use_motos_vpc()
    for step in STEPS:
        if step.name in FAILING:
            fail_at(operator, step)
    goes_on(operator)
    return operator


def test_after_a_failure_up_goes_on_where_it_stopped(deployed: Operator) -> None:
    assert set(deployed.stacks()) == {f"{PREFIX}-{name}" for name in NAMES}
    calls = [each["arguments"][0] for each in deployed.container_calls()]
    assert calls == ["login", "build", "push"] * 2  # of which the first push failed


def test_down_keeps_data_and_up_brings_the_rest_back(deployed: Operator) -> None:
    down = deployed.run("down")
    assert down.exit_code == 0, down.output
    assert set(deployed.stacks()) == {f"{PREFIX}-storage", f"{PREFIX}-workflow"}
    assert deployed.client("lambda").list_functions()["Functions"] == []
    assert deployed.rest_apis() == []
    again = deployed.run("down")
    assert again.output.count("not there") == 4
    assert deployed.run("up").exit_code == 0
    assert len(deployed.stacks()) == len(NAMES)


def test_down_deletes_data_only_if_it_is_named(deployed: Operator) -> None:
    s3 = deployed.client("s3")
    buckets = {each["Name"] for each in s3.list_buckets()["Buckets"]}
    dicom = next(each for each in buckets if "-dicom-" in each)
    for _ in range(2):  # a version beneath the current one
        s3.put_object(Bucket=dicom, Key="instances/a", Body=b"x")

    refused = deployed.run("down", "--delete-data", answers="prod\n")
    assert refused.exit_code == 1
    assert "nothing was deleted" in refused.output
    assert len(deployed.stacks()) == len(NAMES)

    deleted = deployed.run("down", "--delete-data", "--yes-delete-data", PREFIX)
    assert deleted.exit_code == 0, deleted.output
    assert deployed.stacks() == {}
    assert s3.list_buckets()["Buckets"] == []
    assert deployed.client("dynamodb").list_tables()["TableNames"] == []
    assert deployed.client("ecr").describe_repositories()["repositories"] == []
