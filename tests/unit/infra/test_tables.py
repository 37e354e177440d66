"""A change of a table that AWS would refuse, as a value: moto would make it."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from infra.deploy.tables import refusals
from infra.deploy.templates import FOLDER, read_one

STORAGE = dict(read_one(FOLDER / "storage.yaml").document)
Change = Callable[[dict[str, Any]], None]


def changed(change: Change) -> dict[str, Any]:
    template = copy.deepcopy(STORAGE)
    change(template["Resources"])
    return template


def an_index(name: str, partition: str = "day") -> dict[str, Any]:
    return {
        "IndexName": name,
        "KeySchema": [{"AttributeName": partition, "KeyType": "HASH"}],
        "Projection": {"ProjectionType": "KEYS_ONLY"},
    }


def new_key(resources: dict[str, Any]) -> None:
    resources["InstanceTable"]["Properties"]["KeySchema"] = [
        {"AttributeName": "sopInstanceUID", "KeyType": "HASH"}
    ]


def new_key_type(resources: dict[str, Any]) -> None:
    definitions = resources["JobTable"]["Properties"]["AttributeDefinitions"]
    next(each for each in definitions if each["AttributeName"] == "jobId")["AttributeType"] = "N"


def new_logical_id(resources: dict[str, Any]) -> None:
    resources["Studies"] = resources.pop("StudyTable")


def two_new_indexes(resources: dict[str, Any]) -> None:
    indexes = resources["StudyTable"]["Properties"]["GlobalSecondaryIndexes"]
    indexes += [an_index("byDay"), an_index("bySender")]


def one_for_another(resources: dict[str, Any]) -> None:
    indexes = resources["BatchTable"]["Properties"]["GlobalSecondaryIndexes"]
    indexes[0]["IndexName"] = "byStateAndDay"


def new_index_key(resources: dict[str, Any]) -> None:
    indexes = resources["JobTable"]["Properties"]["GlobalSecondaryIndexes"]
    indexes[0]["KeySchema"][1]["AttributeName"] = "submittedAt"


def new_projection(resources: dict[str, Any]) -> None:
    indexes = resources["JobTable"]["Properties"]["GlobalSecondaryIndexes"]
    indexes[0]["Projection"] = {"ProjectionType": "ALL"}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (new_key, "The key of InstanceTable would change"),
        (new_key_type, "The key of JobTable would change"),
        (new_logical_id, "Studies would replace StudyTable under its name"),
        (two_new_indexes, "2 indexes of StudyTable would be added or deleted (byDay, bySender)"),
        (one_for_another, "2 indexes of BatchTable"),
        (new_index_key, "Index byStatus of JobTable would change"),
        (new_projection, "Index byStatus of JobTable would change"),
    ],
)
def test_what_aws_would_refuse_is_told_before(change: Change, why: str) -> None:
    (problem,) = refusals(STORAGE, changed(change))
    assert why in problem


def one_new_index(resources: dict[str, Any]) -> None:
    resources["StudyTable"]["Properties"]["GlobalSecondaryIndexes"].append(an_index("byDay"))


def one_index_less(resources: dict[str, Any]) -> None:
    resources["StudyTable"]["Properties"]["GlobalSecondaryIndexes"].pop()


def another_name(resources: dict[str, Any]) -> None:
    table = resources.pop("InstanceTable")
    table["Properties"] |= {"TableName": "another", "KeySchema": []}
    resources["Instances"] = table


def new_expiry(resources: dict[str, Any]) -> None:
    expiry = {"AttributeName": "expiresAt", "Enabled": True}
    resources["StudyTable"]["Properties"]["TimeToLiveSpecification"] = expiry


@pytest.mark.parametrize(
    "change", [lambda _: None, one_new_index, one_index_less, another_name, new_expiry]
)
def test_what_aws_does_is_let_through(change: Change) -> None:
    assert refusals(STORAGE, changed(change)) == []


def test_a_stack_without_tables_is_let_through() -> None:
    assert refusals({}, STORAGE) == refusals(STORAGE, {}) == []
