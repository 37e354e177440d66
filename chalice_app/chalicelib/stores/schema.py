"""The tables and their indexes. docs/architecture.md says who reads each and what a write costs.

A key cannot be changed in place, a table with a name of its own cannot be replaced under that
name, and one update of a stack adds or deletes one index of a table. So the index ``byLink`` also
serves the lists of studies that are planned: a list is a value of ``link``, and needs no index of
its own.
https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-dynamodb-table.html

The local cloud and the tests create tables from these; the CloudFormation template says the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from chalicelib.settings import TableSettings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import CreateTableInputTypeDef, KeySchemaElementTypeDef

JOBS_BY_STATUS = "byStatus"
JOBS_BY_TIME = "byTime"
BATCHES_BY_STATE = "byState"
BATCHES_BY_TIME = "byTime"
BATCHES_BY_DUE = "byDue"
INSTANCES_BY_STUDY = "byStudy"
INSTANCES_BY_SOP_INSTANCE = "bySopInstance"
STUDIES_BY_LINK = "byLink"
STUDIES_BY_DUE = "byDue"
# The partition of all items of a kind, in the indexes by time.
JOB, BATCH = "job", "batch"
# When DynamoDB may delete an item (TTL), in seconds since 1970.
EXPIRES_AT = "expiresAt"
_KINDS: tuple[Literal["HASH", "RANGE"], ...] = ("HASH", "RANGE")


@dataclass(frozen=True, slots=True)
class Index:
    """A global secondary index; it repeats the keys, and the attributes that it ``shows``."""

    name: str
    partition: str
    sort: str
    shows: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """Partition key and sort key."""
        return self.partition, self.sort


@dataclass(frozen=True, slots=True)
class Schema:
    """A table. ``setting`` is the field of TableSettings with its name."""

    setting: str
    key: tuple[str, ...]
    indexes: tuple[Index, ...]
    expires: bool = False

    def name(self, names: TableSettings) -> str:
        """The table's name."""
        return str(getattr(names, self.setting))


# What a dispatcher has to know of each of thousands of batches; see ``stores.batches.BatchLine``.
LINE = ("admittedAt", "callingAeTitle", "closedAt", "datastoreId", "jobId", "openedAt", "urgent")
JOB_TABLE = Schema(
    "job_table",
    ("jobId",),
    (
        Index(JOBS_BY_STATUS, "jobStatus", "listKey"),
        Index(JOBS_BY_TIME, "kind", "listKey"),
    ),
)
BATCH_TABLE = Schema(
    "batch_table",
    ("batchId",),
    (
        Index(BATCHES_BY_STATE, "state", "batchId", LINE),
        Index(BATCHES_BY_TIME, "kind", "batchId"),
        Index(BATCHES_BY_DUE, "due", "dueAt"),
    ),
    expires=True,
)
INSTANCE_TABLE = Schema(
    "instance_table",
    ("instance", "version"),
    (
        Index(INSTANCES_BY_STUDY, "studyInstanceUID", "sopInstanceUID"),
        Index(INSTANCES_BY_SOP_INSTANCE, "sopInstanceUID", "instance"),
    ),
)
STUDY_TABLE = Schema(
    "study_table",
    ("studyInstanceUID", "item"),
    (
        Index(STUDIES_BY_LINK, "link", "linkKey"),
        Index(STUDIES_BY_DUE, "due", "dueAt"),
    ),
)
SCHEMA = (JOB_TABLE, BATCH_TABLE, INSTANCE_TABLE, STUDY_TABLE)


def table_definitions(names: TableSettings | None = None) -> "list[CreateTableInputTypeDef]":
    """Each table as CreateTable takes it, by the names in ``names`` or the default ones."""
    return [_table(each, names or TableSettings()) for each in SCHEMA]


def _table(schema: Schema, names: TableSettings) -> "CreateTableInputTypeDef":
    attributes = sorted({*schema.key, *(each for index in schema.indexes for each in index.key)})
    return {
        "TableName": schema.name(names),
        "BillingMode": "PAY_PER_REQUEST",
        "KeySchema": _key_schema(schema.key),
        "AttributeDefinitions": [
            {"AttributeName": each, "AttributeType": "S"} for each in attributes
        ],
        "GlobalSecondaryIndexes": [
            {
                "IndexName": index.name,
                "KeySchema": _key_schema(index.key),
                "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": list(index.shows)}
                if index.shows
                else {"ProjectionType": "KEYS_ONLY"},
            }
            for index in schema.indexes
        ],
    }


def _key_schema(names: Sequence[str]) -> "list[KeySchemaElementTypeDef]":
    pairs = zip(names, _KINDS, strict=False)  # a table has no sort key, or one
    return [{"AttributeName": name, "KeyType": kind} for name, kind in pairs]
