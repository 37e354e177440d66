"""docs/deployment.md names every parameter, as the templates have it, and every other setting."""

from infra.deploy import chalice_stage, sections, templates
from infra.deploy.concurrency import QUOTA_CODE, demands
from infra.deploy.config import REGIONS, SUPPLIED
from infra.deploy.invocations import QUEUE_CONCURRENCY, SCHEDULES
from infra.deploy.steps import STEPS
from infra.deploy.templates import REPOSITORY, Parameter

TEXT = (REPOSITORY / "docs" / "deployment.md").read_text(encoding="utf-8")


def row(parameter: Parameter) -> str:
    default = "required" if parameter.default is None else f"`{parameter.default}`"
    default = "" if parameter.default == "" else default
    return f"| `{parameter.name}` | {default} | {parameter.description} |"


def test_every_parameter_has_its_row() -> None:
    first = {
        name: parameter
        for template in reversed(templates.read())
        for name, parameter in template.parameters.items()
        if name not in SUPPLIED
    }
    missing = [row(each) for each in first.values() if row(each) not in TEXT]
    assert not missing, "\n".join(missing)
    named = {line.split("`")[1] for line in TEXT.splitlines() if line.startswith("| `")}
    assert named >= first.keys()


def test_every_section_step_region_and_function_is_named() -> None:
    for section in sections.File.model_fields:
        assert f"\n{section} = " in TEXT or f"\n[{section}" in TEXT, section
    for name in (*(step.name for step in STEPS), *REGIONS, *chalice_stage.functions()):
        assert f"`{name}`" in TEXT, name


def test_the_page_says_the_quota_and_the_ages_that_the_command_uses() -> None:
    needed = sum(each.count for each in demands({}))
    assert f"With the defaults that is {needed}." in TEXT
    assert f", {QUEUE_CONCURRENCY} of the import queue's consumer" in TEXT
    assert f"--quota-code {QUOTA_CODE}" in TEXT
    told = TEXT.partition("for each in ")[2].partition(";")[0].split()
    assert dict(each.split(":") for each in told) == {
        name: str(period) for name, period in SCHEDULES.items()
    }
