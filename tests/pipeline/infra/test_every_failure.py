"""The deploy command against moto, failing at each of its steps, in a VPC of its own."""

import pytest

from infra.deploy.steps import STEPS
from tests.pipeline.infra.conftest import Operator
from tests.pipeline.infra.failures import fail_at, goes_on

pytestmark = [
    pytest.mark.exhaustive,  # test_failures_and_removal.py has a step of each kind
    pytest.mark.timeout(600),
    pytest.mark.no_cover,  # moto's CloudFormation takes twice as long under the tracer
    pytest.mark.filterwarnings("ignore:Tried to parse AWS:UserWarning"),
]


def test_after_a_failure_at_any_step_up_goes_on_where_it_stopped(operator: Operator) -> None:
    for step in STEPS:
        fail_at(operator, step)
    goes_on(operator)
