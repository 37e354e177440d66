"""What Chalice has deployed, told by AWS and not by a file on somebody's machine.

Chalice remembers ids in .chalice/deployed/STAGE.json, and writes it only after all went well. On a
second machine, or after a failure, it would make a second REST API and be refused a second event
source mapping. So the file is written anew from what is there, before each of its runs.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from infra.deploy import aws
from infra.deploy.chalice_stage import API_HANDLER, APP_NAME, function_name
from infra.deploy.policies import Place

if TYPE_CHECKING:
    from mypy_boto3_apigateway import APIGatewayClient
    from mypy_boto3_apigateway.type_defs import ResourceTypeDef

Json = dict[str, Any]
_SCHEMA = "2.0"


@dataclass(frozen=True, slots=True)
class _Function:
    name: str
    arn: str
    role_arn: str


def record(stage: str, place: Place) -> Json:
    """What .chalice/deployed/STAGE.json has to say."""
    functions = list(_functions(stage, place))
    resources = [
        *(each for function in functions for each in _of_function(function, place)),
        *_rules(stage, place),
        *_rest_apis(stage, place),
    ]
    return {"schema_version": _SCHEMA, "backend": "api", "resources": resources}


def rest_api_url(stage: str, place: Place) -> str:
    """Where the REST API answers; nothing if it is not there."""
    return next((str(each["rest_api_url"]) for each in _rest_apis(stage, place)), "")


def other_region(stage: str, place: Place) -> str:
    """The Region that the role of the REST API's function is for, if it is not this one."""
    name = f"{function_name(stage, API_HANDLER)}-{API_HANDLER}"
    try:
        found = aws.client("iam", place.region).get_role_policy(RoleName=name, PolicyName=name)
    except ClientError as error:
        if aws.error_code(error) == "NoSuchEntity":
            return ""
        raise
    regions = set(re.findall(r":logs:([a-z0-9-]+):", json.dumps(found["PolicyDocument"])))
    return ", ".join(sorted(regions - {place.region}))


def _functions(stage: str, place: Place) -> Iterator[_Function]:
    """Those of this stage, whose name has no hyphen that could make it another's beginning."""
    client = aws.client("lambda", place.region)
    base = function_name(stage, API_HANDLER)
    pages = client.get_paginator("list_functions").paginate()
    for each in (function for page in pages for function in page["Functions"]):
        if f"{each['FunctionName']}-".startswith(f"{base}-"):
            name = each["FunctionName"].removeprefix(base).removeprefix("-") or API_HANDLER
            yield _Function(name, each["FunctionArn"], each["Role"])


def _of_function(function: _Function, place: Place) -> Iterator[Json]:
    yield {
        "name": f"{function.name}_role",
        "resource_type": "iam_role",
        "role_arn": function.role_arn,
        "role_name": function.role_arn.rpartition("/")[2],
    }
    yield {
        "name": function.name,
        "resource_type": "lambda_function",
        "lambda_arn": function.arn,
    }
    pages = (
        aws.client("lambda", place.region)
        .get_paginator("list_event_source_mappings")
        .paginate(FunctionName=function.arn)
    )
    for mapping in (each for page in pages for each in page["EventSourceMappings"]):
        yield {
            "name": f"{function.name}-sqs-event-source",
            "resource_type": "sqs_event",
            "queue_arn": mapping["EventSourceArn"],
            "queue": mapping["EventSourceArn"].rpartition(":")[2],
            "event_uuid": mapping["UUID"],
            "lambda_arn": function.arn,
        }


def _rules(stage: str, place: Place) -> Iterator[Json]:
    prefix = f"{function_name(stage, API_HANDLER)}-"
    pages = aws.client("events", place.region).get_paginator("list_rules")
    for rule in (each for page in pages.paginate(NamePrefix=prefix) for each in page["Rules"]):
        yield {
            "name": rule["Name"].removeprefix(prefix),
            "resource_type": "cloudwatch_event",
            "rule_name": rule["Name"],
        }


def _rest_apis(stage: str, place: Place) -> Iterator[Json]:
    """Chalice calls the APIs of all stages the same: ours calls this stage's function."""
    client: APIGatewayClient = aws.client("apigateway", place.region)
    target = f":function:{function_name(stage, API_HANDLER)}/"
    pages = client.get_paginator("get_rest_apis").paginate()
    for api in (each for page in pages for each in page["items"] if each["name"] == APP_NAME):
        if any(target in uri for uri in _integrations(client, api["id"])):
            yield {
                "name": "rest_api",
                "resource_type": "rest_api",
                "rest_api_id": api["id"],
                "rest_api_url": f"https://{api['id']}.execute-api.{place.region}"
                f".{_dns_suffix(place)}/api/",
            }


def _integrations(client: "APIGatewayClient", api_id: str) -> Iterator[str]:
    pages = client.get_paginator("get_resources").paginate(restApiId=api_id, embed=["methods"])
    for resource in (each for page in pages for each in page["items"]):
        yield from _uris(client, api_id, resource)


def _uris(client: "APIGatewayClient", api_id: str, resource: "ResourceTypeDef") -> Iterator[str]:
    for method in resource.get("resourceMethods", {}):
        try:
            integration = client.get_integration(
                restApiId=api_id, resourceId=resource["id"], httpMethod=method
            )
        except ClientError as error:
            if aws.error_code(error) == "NotFoundException":
                continue  # CORS preflight or a method that is still being imported
            raise
        yield integration.get("uri", "")


def _dns_suffix(place: Place) -> str:
    return "amazonaws.com.cn" if place.partition == "aws-cn" else "amazonaws.com"
