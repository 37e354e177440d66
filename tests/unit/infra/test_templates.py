import json
from pathlib import Path

from infra.deploy import templates
from infra.deploy.templates import MAX_BODY_BYTES, REPOSITORY

SHORT = """
Parameters:
  P: {Type: Number, Default: 1, AllowedValues: [1, 2], MinValue: 1}
Resources:
  A:
    Type: T
    Properties:
      Version: 2012-10-17
      Arn: !GetAtt Nested.Output.Arn
      Name: !Sub "${P}-a"
      Both: !If [C, !Ref P, !Ref AWS::NoValue]
      Map: !Transform {Name: AWS::Include}
"""


def test_short_forms_become_functions_and_dates_stay_text() -> None:
    properties = templates.parse(SHORT)["Resources"]["A"]["Properties"]
    assert properties == {
        "Version": "2012-10-17",
        "Arn": {"Fn::GetAtt": ["Nested", "Output.Arn"]},
        "Name": {"Fn::Sub": "${P}-a"},
        "Both": {"Fn::If": ["C", {"Ref": "P"}, {"Ref": "AWS::NoValue"}]},
        "Map": {"Fn::Transform": {"Name": "AWS::Include"}},
    }


def test_a_parameters_rules_are_read_as_text(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(SHORT)
    parameter = templates.read_one(tmp_path / "t.yaml").parameters["P"]
    assert (parameter.default, parameter.allowed, parameter.value) == ("1", ("1", "2"), (1.0, None))


def test_every_template_fits_into_a_request() -> None:
    for template in templates.read():
        assert len(template.body.encode()) <= MAX_BODY_BYTES


def test_the_state_machine_is_put_into_its_template() -> None:
    (workflow,) = [each for each in templates.read() if each.name == "workflow"]
    (machine,) = [
        each["Properties"]
        for each in workflow.resources.values()
        if each["Type"] == "AWS::StepFunctions::StateMachine"
    ]
    assert "DefinitionS3Location" not in machine
    definition = REPOSITORY / "stepfunctions" / "definition.asl.json"
    assert json.loads(machine["DefinitionString"]) == json.loads(definition.read_text())
