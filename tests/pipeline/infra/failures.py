"""A deployment that fails at a step."""

import pytest
from moto.apigateway.models import APIGatewayBackend

from infra.deploy.steps import STEPS, Step
from infra.deploy.templates import NAMES
from tests.pipeline.infra.conftest import PREFIX, Operator, outcomes


def _refused(*_: object, **__: object) -> None:
    raise RuntimeError


def fail_at(operator: Operator, step: Step) -> None:
    """Run up, which stops there, and says what it did before and how to go on."""
    operator.cloud.failing = {f"{PREFIX}-{step.name}": "Somebody has taken this name"}
    with pytest.MonkeyPatch.context() as patch:
        if step.name == "functions":  # half of Chalice's work is done, and nothing recorded
            patch.setattr(APIGatewayBackend, "import_rest_api", _refused)
        if step.name == "image":
            patch.setenv("REGISTRY_IS_AWAY", "yes")
        failed = operator.run("up")
    operator.cloud.failing = {}
    assert failed.exit_code == 1
    assert f"{step.name} failed: " in failed.output
    assert ("Somebody has taken this name" in failed.output) == (step.name in NAMES)
    assert "run again (what is done is found done): python -m infra.deploy up" in failed.output
    assert set(outcomes(failed.output)) == {each.name for each in STEPS[: STEPS.index(step)]}


def goes_on(operator: Operator) -> None:
    """Run up once more, which ends as if it had never failed."""
    healed = operator.run("up")
    assert healed.exit_code == 0, healed.output
    assert set(operator.stacks().values()) == {"CREATE_COMPLETE"}
    assert operator.rest_apis() == ["dicom-store-scp"]
    assert len(operator.mappings()) == 1
