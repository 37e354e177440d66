"""What moto's CloudFormation lacks for the templates, put right so that it can create them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import yaml
from moto.cloudformation import parsing
from moto.elbv2.models import FakeLoadBalancer

# Skipped by moto with a warning; their properties are checked against AWS's schemas by cfn-lint.
NOT_CREATED = frozenset(
    {
        "AWS::ApplicationAutoScaling::ScalableTarget",
        "AWS::ApplicationAutoScaling::ScalingPolicy",
        "AWS::CloudWatch::Alarm",
        "AWS::EC2::NetworkAcl",
        "AWS::EC2::NetworkAclEntry",
        "AWS::EC2::SecurityGroupEgress",
        "AWS::EC2::SubnetNetworkAclAssociation",
        "AWS::HealthImaging::Datastore",
        "AWS::Logs::QueryDefinition",
        "AWS::S3::BucketPolicy",
        "AWS::SNS::TopicPolicy",
        "AWS::SQS::QueuePolicy",
    }
)

_clean = parsing.clean_json
_create = FakeLoadBalancer.create_from_cloudformation_json


@contextmanager
def filled() -> Iterator[None]:
    """While this lasts, AWS::NoValue leaves lists, and a load balancer has its type.

    What takes moto most of its time is left out: 1,300 machine images, and reading the templates,
    which are JSON without a tag, in PyYAML's own Python and not by libyaml.
    """
    with (
        mock.patch.dict(os.environ, MOTO_EC2_LOAD_DEFAULT_AMIS="false"),
        mock.patch.object(yaml, "Loader", getattr(yaml, "CLoader", yaml.Loader)),
        mock.patch.object(parsing, "clean_json", _without_no_values),
        mock.patch.object(FakeLoadBalancer, "create_from_cloudformation_json", _typed),
    ):
        yield


def _without_no_values(value: Any, resources: parsing.ResourceMap) -> Any:
    if isinstance(value, list):
        cleaned = [_without_no_values(each, resources) for each in value]
        return [each for each in cleaned if each is not None]
    return _clean(value, resources)


def _typed(name: str, resource: Any, *args: Any, **more: Any) -> FakeLoadBalancer:
    balancer = _create(name, resource, *args, **more)
    balancer.type = resource["Properties"]["Type"]
    return balancer
