"""The tables' definitions, as data: DynamoDB's CreateTable arguments.

The local cloud and the tests create tables from them; the CloudFormation template says the same.
"""

from typing import TYPE_CHECKING

from chalicelib.settings import TableSettings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import CreateTableInputTypeDef

JOBS_BY_STATUS = "byStatus"
JOBS_BY_STUDY = "byStudy"
BATCHES_BY_STATE = "byState"
BATCHES_BY_DUE = "byDue"
INSTANCES_BY_STUDY = "byStudy"


def table_definitions(names: TableSettings | None = None) -> "list[CreateTableInputTypeDef]":
    """One set of arguments for each table; the default names unless others are given."""
    tables = names or TableSettings()
    return [
        _table(
            tables.job_table,
            "jobId",
            {
                JOBS_BY_STATUS: ("jobStatus", "submittedAt"),
                JOBS_BY_STUDY: ("studyInstanceUID", "submittedAt"),
            },
        ),
        _table(
            tables.batch_table,
            "batchId",
            {BATCHES_BY_STATE: ("state", "openedAt"), BATCHES_BY_DUE: ("due", "dueAt")},
        ),
        _table(
            tables.instance_table,
            "sopInstanceUID",
            {INSTANCES_BY_STUDY: ("studyInstanceUID", "sopInstanceUID")},
        ),
    ]


def _table(name: str, key: str, indexes: dict[str, tuple[str, str]]) -> "CreateTableInputTypeDef":
    attributes = sorted({key, *(each for pair in indexes.values() for each in pair)})
    definition: CreateTableInputTypeDef = {
        "TableName": name,
        "BillingMode": "PAY_PER_REQUEST",
        "KeySchema": [{"AttributeName": key, "KeyType": "HASH"}],
        "AttributeDefinitions": [
            {"AttributeName": each, "AttributeType": "S"} for each in attributes
        ],
    }
    if indexes:
        definition["GlobalSecondaryIndexes"] = [
            {
                "IndexName": index,
                "KeySchema": [
                    {"AttributeName": partition, "KeyType": "HASH"},
                    {"AttributeName": sort, "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "ALL"},
            }
            for index, (partition, sort) in indexes.items()
        ]
    return definition
