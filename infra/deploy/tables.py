"""What CloudFormation and DynamoDB refuse to do to a table, before they are asked to. Pure.

A key cannot be changed in place; a table with a name of its own cannot be replaced under that name;
one update adds or deletes one index of a table, and changes none.
https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-dynamodb-table.html
https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_UpdateTable.html
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

Json = Mapping[str, Any]
_TABLE = "AWS::DynamoDB::Table"


def refusals(deployed: Json, wanted: Json) -> list[str]:
    """Why an update from one template to the other would fail, a sentence for each table."""
    before, after = _tables(deployed), _tables(wanted)
    return [
        problem
        for name, (logical_id, table) in after.items()
        if name in before
        for problem in _changes(logical_id, table, *before[name])
    ]


def _tables(template: Json) -> dict[str, tuple[str, Json]]:
    """The tables' logical ids and properties, by their names."""
    return {
        json.dumps(each["Properties"].get("TableName"), sort_keys=True): (
            logical_id,
            each["Properties"],
        )
        for logical_id, each in template.get("Resources", {}).items()
        if each.get("Type") == _TABLE
    }


def _changes(logical_id: str, table: Json, old_id: str, old: Json) -> Iterator[str]:
    if logical_id != old_id:
        yield f"{logical_id} would replace {old_id} under its name."
        return
    if table["KeySchema"] != old["KeySchema"] or _key_types(table) != _key_types(old):
        yield f"The key of {logical_id} would change: a new key needs a table of another name."
    before, after = _indexes(old), _indexes(table)
    for name in sorted(before.keys() & after.keys()):
        if before[name] != after[name]:
            yield (
                f"Index {name} of {logical_id} would change: give the index a new name, and add and"
                " delete in two updates."
            )
    moved = sorted(before.keys() ^ after.keys())
    if len(moved) > 1:
        yield (
            f"{len(moved)} indexes of {logical_id} would be added or deleted"
            f" ({', '.join(moved)}): DynamoDB does one in an update."
        )


def _key_types(table: Json) -> dict[str, str]:
    types = {each["AttributeName"]: each["AttributeType"] for each in table["AttributeDefinitions"]}
    names = [each["AttributeName"] for each in table["KeySchema"]]
    return {name: types[name] for name in names}


def _indexes(table: Json) -> dict[str, Json]:
    return {each["IndexName"]: each for each in table.get("GlobalSecondaryIndexes", [])}
