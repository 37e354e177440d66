from infra.deploy import templates
from infra.deploy.removal import DELETERS, WITH_DATA, WITHOUT_DATA
from infra.deploy.steps import STEPS

TEMPLATES = templates.read()


def outliving(template: templates.Template) -> set[str]:
    return {
        resource["Type"]
        for resource in template.resources.values()
        if resource.get("DeletionPolicy", "Delete") != "Delete"
    }


def test_everything_that_outlives_its_stack_can_be_deleted() -> None:
    assert set().union(*map(outliving, TEMPLATES)) == set(DELETERS)


def test_what_down_removes_without_being_told_twice_holds_no_data() -> None:
    kept = {each.name for each in TEMPLATES if outliving(each)}
    assert kept == set(WITH_DATA)


def test_down_removes_every_step_that_leaves_something() -> None:
    removed = {*WITHOUT_DATA, *WITH_DATA}
    assert removed == {each.name for each in STEPS} - {"image"}  # the repository has it
