"""The stacks as moto creates them, one after the other, in every shape that the parameters give."""

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws
from moto.moto_api._internal.models import moto_api_backend

from infra.deploy.templates import NAMES
from tests.infra.moto_gaps import NOT_CREATED, filled
from tests.infra.templates import BODIES, TEMPLATES

REGION, ACCOUNT = "eu-west-1", "123456789012"
DATASTORE = "0123456789abcdef0123456789abcdef"
GIVEN = {
    "PeerCIDR1": "10.1.0.0/16",
    "DatastoreID": DATASTORE,
    "ImageUri": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/dicom-store-scp-prod:1",
}
SECRET = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:tls-AbCdEf"
# What the default parameters leave out.
OPTIONAL = {
    "AlarmSubscription", "ApiEndpoint", "DicomFromPeer2", "DicomFromPeer3", "Key",
    "TlsFromLoadBalancer", "TlsFromPeer1", "TlsFromPeer2", "TlsFromPeer3", "TlsListener",
    "TlsPassthroughListener", "TlsTargets", "TlsToReceivers",
}  # fmt: skip
Outputs = dict[str, str]
pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse:UserWarning")


@pytest.fixture(scope="module")
def _aws() -> Iterator[None]:
    """One session for all tests: its loader reads the models of ten services."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_DEFAULT_REGION", REGION)
        environment.setenv("AWS_ACCESS_KEY_ID", "made-up")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
        with mock_aws(), filled():
            yield


@pytest.fixture(autouse=True)
def _nothing_there(_aws: None) -> None:
    """What an earlier test created is gone."""
    moto_api_backend.reset()


def create(**parameters: str) -> Outputs:
    """Every stack, in order; all their outputs."""
    client = boto3.client("cloudformation")
    outputs: Outputs = {}
    for name in NAMES:
        known = TEMPLATES[name]["Parameters"]
        given = {k: v for k, v in (GIVEN | parameters).items() if k in known}
        stack = f"dicom-store-scp-prod-{name}"
        client.create_stack(
            StackName=stack,
            TemplateBody=BODIES[name],
            Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in given.items()],
            Capabilities=["CAPABILITY_IAM"],
        )
        (made,) = client.describe_stacks(StackName=stack)["Stacks"]
        assert made["StackStatus"] == "CREATE_COMPLETE"
        outputs |= {each["OutputKey"]: each["OutputValue"] for each in made["Outputs"]}
    return outputs


def listeners() -> dict[int, tuple[str, int]]:
    """Of the load balancer: port to protocol, and the port of the tasks behind."""
    client = boto3.client("elbv2")
    (balancer,) = client.describe_load_balancers()["LoadBalancers"]
    found = client.describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])["Listeners"]
    targets = {
        each["TargetGroupArn"]: each["Port"]
        for each in client.describe_target_groups()["TargetGroups"]
    }
    return {
        each["Port"]: (each["Protocol"], targets[each["DefaultActions"][0]["TargetGroupArn"]])
        for each in found
    }


def receiver() -> tuple[dict[str, Any], dict[str, str]]:
    """The task's containers by name, and the receiver's environment."""
    client = boto3.client("ecs")
    (arn,) = client.list_task_definitions()["taskDefinitionArns"]
    task = client.describe_task_definition(taskDefinition=arn)["taskDefinition"]
    containers = {each["name"]: each for each in task["containerDefinitions"]}
    environment = containers["receiver"]["environment"]
    return containers, {each["name"]: each["value"] for each in environment}


def allowed_in(group: str) -> set[tuple[int, str]]:
    """Port and source of everything that a security group lets in."""
    client = boto3.client("ec2")
    (found,) = client.describe_security_groups(GroupIds=[group])["SecurityGroups"]
    return {
        (rule["FromPort"], source)
        for rule in found["IpPermissions"]
        for source in (
            *(each["CidrIp"] for each in rule["IpRanges"]),
            *(each["GroupId"] for each in rule["UserIdGroupPairs"]),
        )
    }


def test_what_moto_leaves_out_is_known() -> None:
    create(DatastoreID="")
    client = boto3.client("cloudformation")
    left_out = set()
    for name in NAMES:
        made = client.describe_stack_resources(StackName=f"dicom-store-scp-prod-{name}")
        there = {
            each["LogicalResourceId"] for each in made["StackResources"] if each.get("ResourceType")
        }
        wanted = TEMPLATES[name]["Resources"]
        left_out |= {wanted[each]["Type"] for each in wanted.keys() - there if each not in OPTIONAL}
    assert left_out == NOT_CREATED


def test_the_default_is_one_plain_port_open_to_the_peers_network_only() -> None:
    outputs = create()
    assert listeners() == {11112: ("TCP", 11112)}
    (balancer,) = boto3.client("elbv2").describe_load_balancers()["LoadBalancers"]
    assert (balancer["Type"], balancer["Scheme"]) == ("network", "internal")
    (group,) = balancer["SecurityGroups"]
    assert allowed_in(group) == {(11112, "10.1.0.0/16")}
    service = outputs["ServiceSecurityGroupId"]
    assert allowed_in(service) == {(8080, group), (11112, group)}
    containers, environment = receiver()
    assert list(containers) == ["receiver"]
    assert environment["DICOM_BUCKET"] == outputs["DicomBucketName"]
    assert environment["BATCH_TABLE"] == outputs["BatchTableName"]
    assert environment["SCP_PLAIN"] == "true"
    assert environment["SCP_TLS_PORT"] == ""
    assert outputs["KmsKeyArn"] == ""
    assert outputs["DatastoreArns"].endswith(f":datastore/{DATASTORE}")


def test_tls_may_end_at_the_load_balancer() -> None:
    acm = boto3.client("acm")
    certificate = acm.request_certificate(DomainName="dicom.example.org")["CertificateArn"]
    create(TLSCertificateARN=certificate, PlainListener="false")
    assert listeners() == {2762: ("TLS", 11112)}


def test_mutual_tls_may_end_at_the_receiver_with_plain_dicom_switched_off() -> None:
    outputs = create(SCPTLSSecretARN=SECRET, PlainListener="false", PeerCIDR2="10.2.0.0/16")
    assert listeners() == {2762: ("TCP", 2762)}
    (balancer,) = boto3.client("elbv2").describe_load_balancers()["LoadBalancers"]
    peers = allowed_in(balancer["SecurityGroups"][0])
    assert peers == {(2762, "10.1.0.0/16"), (2762, "10.2.0.0/16")}
    containers, environment = receiver()
    assert environment["SCP_PLAIN"] == "false"
    assert environment["SCP_TLS_CLIENT_CA"] == "/run/scp/client-ca.pem"
    secrets = {each["name"] for each in containers["files"]["secrets"]}
    assert secrets == {"CERTIFICATE", "KEY", "CLIENT_CA"}
    assert outputs["DICOMPort"] == "2762"


def test_plain_and_tls_may_be_side_by_side() -> None:
    create(SCPTLSSecretARN=SECRET, AEPolicySecretARN=SECRET, ProxyProtocol="v2")
    assert listeners() == {11112: ("TCP", 11112), 2762: ("TCP", 2762)}
    containers, environment = receiver()
    assert environment["SCP_POLICY"] == "/run/scp/policy.toml"
    assert environment["SCP_PROXY_TRUSTED_CIDRS"] == "10.0.0.0/16"
    # The balancer's header stands before its health checks, too; the health port knows none.
    groups = boto3.client("elbv2").describe_target_groups()["TargetGroups"]
    assert {each["HealthCheckProtocol"] for each in groups} == {"TCP"}
    assert "POLICY" in {each["name"] for each in containers["files"]["secrets"]}


def test_one_parameter_encrypts_everything_with_a_key_of_ones_own() -> None:
    outputs = create(CustomerManagedKey="true")
    key = outputs["KmsKeyArn"]
    assert key.startswith(f"arn:aws:kms:{REGION}:{ACCOUNT}:key/")
    for bucket in (outputs["DicomBucketName"], outputs["ResultsBucketName"]):
        answer = boto3.client("s3").get_bucket_encryption(Bucket=bucket)
        (rule,) = answer["ServerSideEncryptionConfiguration"]["Rules"]
        assert rule["ApplyServerSideEncryptionByDefault"]["KMSMasterKeyID"] == key
    sqs = boto3.client("sqs")
    url = sqs.get_queue_url(QueueName=outputs["ImportQueueName"])["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["KmsMasterKeyId"])
    assert attributes["Attributes"]["KmsMasterKeyId"] == key


def test_an_existing_vpc_gets_nothing_but_the_receivers_security_group() -> None:
    ec2 = boto3.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.9.{n}.0/24")["Subnet"]["SubnetId"]
        for n in range(4)
    ]
    outputs = create(
        VpcID=vpc,
        PublicSubnetIDs=",".join(subnets[:2]),
        PrivateSubnetIDs=",".join(subnets[2:]),
        VpcCIDR="10.9.0.0/16",
    )
    assert outputs["VpcId"] == vpc
    (group,) = ec2.describe_security_groups(GroupIds=[outputs["ServiceSecurityGroupId"]])[
        "SecurityGroups"
    ]
    assert group["VpcId"] == vpc
    assert "EndpointSecurityGroupId" not in outputs
    mine = ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["Subnets"]
    assert {each["SubnetId"] for each in mine} == set(subnets)
    assert not ec2.describe_vpc_endpoints()["VpcEndpoints"]
