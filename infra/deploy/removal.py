"""``down``: what costs money goes; what holds data stays, unless it is told twice to go, too."""

from collections.abc import Callable, Iterator, Mapping

import boto3
from botocore.exceptions import ClientError

from infra.deploy import aws, chalice_record, functions
from infra.deploy.deployment import Deployment
from infra.deploy.errors import DeployError
from infra.deploy.templates import Template

Tell = Callable[[str], None]
# The receiver first, so that nothing is acknowledged any more; what was waits in the queue.
WITHOUT_DATA = ("monitoring", "service", "functions", "network")
WITH_DATA = ("workflow", "storage")


def remove(deployment: Deployment, name: str, tell: Tell) -> bool:
    """Remove a stack or the functions; False if there was nothing."""
    if name == "functions":
        return _remove_functions(deployment, tell)
    stack = deployment.configuration.stack_name(name)
    if deployment.stacks.find(stack) is None:
        return False
    deployment.stacks.delete(stack, tell)
    return True


def remove_data(deployment: Deployment, name: str, tell: Tell) -> bool:
    """Delete what a stack keeps even when it is deleted, then the stack. There is no way back."""
    stack, region = deployment.configuration.stack_name(name), deployment.configuration.region
    if deployment.stacks.find(stack) is None:
        return False
    for resource_type, physical_id in retained(deployment.templates[name], stack, region):
        tell(f"deleting {physical_id}")
        DELETERS[resource_type](physical_id, region)
    return remove(deployment, name, tell)


def retained(template: Template, stack: str, region: str) -> Iterator[tuple[str, str]]:
    """The type and physical id of each resource of the stack that outlives it."""
    client = aws.client("cloudformation", region)
    kept = {
        logical_id
        for logical_id, resource in template.resources.items()
        if resource.get("DeletionPolicy", "").startswith("Retain")
    }
    pages = client.get_paginator("list_stack_resources").paginate(StackName=stack)
    for each in (one for page in pages for one in page["StackResourceSummaries"]):
        if each["LogicalResourceId"] in kept and "PhysicalResourceId" in each:
            yield each["ResourceType"], each["PhysicalResourceId"]


def _remove_functions(deployment: Deployment, tell: Tell) -> bool:
    stage = deployment.configuration.stage
    if not chalice_record.record(stage, deployment.place)["resources"]:
        return False
    deployment.render()
    functions.delete(deployment.project, deployment.stage(), tell)
    return True


def _bucket(name: str, region: str) -> None:
    bucket = boto3.resource("s3", region_name=region).Bucket(name)
    bucket.object_versions.delete()
    bucket.delete()


def _table(name: str, region: str) -> None:
    aws.client("dynamodb", region).delete_table(TableName=name)


def _repository(name: str, region: str) -> None:
    aws.client("ecr", region).delete_repository(repositoryName=name, force=True)


def _key(key_id: str, region: str) -> None:
    # KMS waits for 30 days, in which it can be taken back.
    aws.client("kms", region).schedule_key_deletion(KeyId=key_id)


def _datastore(datastore_id: str, region: str) -> None:
    try:
        aws.client("medical-imaging", region).delete_datastore(datastoreId=datastore_id)
    except ClientError as error:
        if aws.error_code(error) != "ConflictException":
            raise
        raise DeployError(
            f"HealthImaging refuses to delete the data store {datastore_id}, which still has image "
            "sets. This command deletes none of them.",
            "Delete the image sets first, or delete the stacks and keep the data store.",
        ) from None


def _unless_gone(delete: Callable[[str, str], None]) -> Callable[[str, str], None]:
    """``delete``, which an earlier run may have done."""

    def once(physical_id: str, region: str) -> None:
        try:
            delete(physical_id, region)
        except ClientError as error:
            if aws.error_code(error) not in _GONE:
                raise

    return once


_GONE = {
    "KMSInvalidStateException",
    "NoSuchBucket",
    "RepositoryNotFoundException",
    "ResourceNotFoundException",
}
DELETERS: Mapping[str, Callable[[str, str], None]] = {
    "AWS::DynamoDB::Table": _unless_gone(_table),
    "AWS::ECR::Repository": _unless_gone(_repository),
    "AWS::HealthImaging::Datastore": _unless_gone(_datastore),
    "AWS::KMS::Key": _unless_gone(_key),
    "AWS::S3::Bucket": _unless_gone(_bucket),
}
