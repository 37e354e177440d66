"""What the templates promise each other, the code and AWS."""

import json
import re
from pathlib import Path
from typing import Any

import app
import pytest
from chalicelib.settings import TableSettings
from chalicelib.stores import schema
from store_scp.deadlines import HEALTH_SECONDS, WORKER_SECONDS
from store_scp.metrics import Counter, Gauge
from store_scp.settings import Settings

from contract.keys import DROPBOX_PREFIX, MANIFEST_SUFFIX, MANIFESTS_PREFIX
from infra.deploy.templates import FOLDER, NAMES, REPOSITORY
from local import names
from local import resources as local_resources
from tests.infra.templates import (
    BODIES,
    TEMPLATES,
    exports,
    imports,
    longest,
    resource,
    resources,
    statements,
    texts,
    walk,
)

RUNBOOK = (REPOSITORY / "docs" / "runbook.md").read_text()
HEADINGS = set(re.findall(r"^### (.+)$", RUNBOOK, re.MULTILINE))
CONFIG = json.loads((Path(app.__file__).parent / ".chalice" / "config.json").read_text())
FUNCTIONS = set(CONFIG["stages"]["dev"]["lambda_functions"])
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html
MAX_DESCRIPTION = 1_024
# The services' own limits of what the templates name.
MAX_NAME = {
    "AlarmName": 255,
    "BucketName": 63,
    "ClusterName": 255,
    "DashboardName": 255,
    "DatastoreName": 256,
    "Family": 255,
    "LogGroupName": 512,
    "PolicyName": 256,
    "QueueName": 80,
    "RepositoryName": 256,
    "ServiceName": 255,
    "StateMachineName": 80,
    "TableName": 255,
    "TopicName": 256,
}


def test_a_stack_imports_only_what_one_before_it_exports() -> None:
    known: set[str] = set()
    for name in NAMES:
        assert imports(TEMPLATES[name]) <= known, name
        assert not exports(TEMPLATES[name]) & known
        known |= exports(TEMPLATES[name])


def test_an_export_is_named_for_its_output() -> None:
    for template in TEMPLATES.values():
        assert exports(template) == {
            name for name, output in template["Outputs"].items() if "Export" in output
        }


def test_no_parameter_changes_an_export_in_use_but_the_choice_of_network_and_key() -> None:
    """CloudFormation refuses to change what another stack imports."""
    used = {each for template in TEMPLATES.values() for each in imports(template)}
    for template in TEMPLATES.values():
        for name in used & template["Outputs"].keys():
            value = [
                each for each in walk(template["Outputs"][name]["Value"]) if isinstance(each, dict)
            ]
            refs = {each["Ref"] for each in value if "Ref" in each} & template["Parameters"].keys()
            conditions = {each["Fn::If"][0] for each in value if "Fn::If" in each}
            assert refs <= {"VpcID", "PublicSubnetIDs", "PrivateSubnetIDs", "SecurityGroupID"}, name
            assert conditions <= {"NewVpc", "NewSecurityGroup", "OwnKey"}, name


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_grouped_described_and_bounded(name: str) -> None:
    template = TEMPLATES[name]
    groups = template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    grouped = [each for group in groups for each in group["Parameters"]]
    assert sorted(grouped) == sorted(template["Parameters"])
    for parameter in template["Parameters"].values():
        assert parameter["Description"]
        if "AllowedPattern" in parameter:
            assert parameter["ConstraintDescription"].startswith("must be")
            re.compile(parameter["AllowedPattern"])
        else:
            assert {"AllowedValues", "MinValue", "MaxLength"} & parameter.keys()


def test_a_parameter_is_the_same_in_every_template_that_has_it() -> None:
    seen: dict[str, Any] = {}
    for template in TEMPLATES.values():
        for name, parameter in template["Parameters"].items():
            rules = {k: v for k, v in parameter.items() if k != "Description"}
            assert seen.setdefault(name, rules) == rules, name
    assert seen["NamePrefix"]["Default"] == "dicom-store-scp"
    assert seen["Stage"]["Default"] == "prod"


def test_the_reference_products_names_and_defaults_are_kept() -> None:
    parameters = {k: v for each in TEMPLATES.values() for k, v in each["Parameters"].items()}
    expected = {
        "VpcID": "", "PublicSubnetIDs": "", "PrivateSubnetIDs": "", "SecurityGroupID": "",
        "VpcCIDR": "10.0.0.0/16", "SCPAETitle": "STORESCP", "SCPPort": 11112,
        "PeerCIDR2": "", "PeerCIDR3": "", "DIMSETimeout": 60, "MaximumAssociations": 300,
        "TaskCPU": "1024", "TaskMemoryLimit": "2048", "TaskDesiredCount": 1,
        "AutoscaleMaxCapacity": 3, "TLSCertificateARN": "",
    }  # fmt: skip
    assert {name: parameters[name]["Default"] for name in expected} == expected
    assert "Default" not in parameters["PeerCIDR1"]  # who may send is nobody's to guess
    assert {"NetworkLoadBalancerDNS", "DICOMPort", "DICOMAETitle"} <= exports(TEMPLATES["service"])


@pytest.mark.parametrize("name", NAMES)
def test_a_template_knows_no_partition_region_or_account(name: str) -> None:
    text = BODIES[name]
    assert not re.search(r"arn:aws|us-east-1|eu-west-1|\d{12}(?!\d)", text)
    assert ".amazonaws.com." not in text


def test_no_name_is_too_long() -> None:
    for _, each in resources():
        for key, value in each.get("Properties", {}).items():
            if key in MAX_NAME and isinstance(value, dict) and "Fn::Sub" in value:
                assert len(longest(value["Fn::Sub"])) <= MAX_NAME[key], value
    for name in FUNCTIONS:
        assert len(f"dicom-store-scp-{'s' * 8}-{name}") <= 64  # Lambda's limit
    assert len(f"{'p' * 18}-{'s' * 8}-monitoring") <= 128  # a stack's
    assert len(f"{'p' * 18}-{'s' * 8}-ext") <= 32  # a load balancer's


def test_what_keeps_data_outlives_its_stack() -> None:
    kept = {
        name
        for name, each in resources()
        if each.get("DeletionPolicy") == "RetainExceptOnCreate"
        and each.get("UpdateReplacePolicy") == "Retain"
    }
    assert kept == {
        "AccessLogBucket", "BatchTable", "Datastore", "DicomBucket", "InstanceTable", "JobTable",
        "Key", "Repository", "ResultsBucket", "StudyTable",
    }  # fmt: skip


def test_the_tables_are_those_of_the_code() -> None:
    definitions: dict[str, Any] = {each["TableName"]: each for each in schema.table_definitions()}
    expiries = {
        each.name(TableSettings()): {"AttributeName": schema.EXPIRES_AT, "Enabled": True}
        if each.expires
        else None
        for each in schema.SCHEMA
    }
    for _, each in resources("AWS::DynamoDB::Table"):
        table = each["Properties"]
        name = table["TableName"]["Fn::Sub"].removeprefix("${NamePrefix}-${Stage}-")
        wanted = definitions.pop(name)
        for key in ("BillingMode", "KeySchema", "AttributeDefinitions", "GlobalSecondaryIndexes"):
            assert table[key] == wanted[key], (name, key)
        expiry = table.get("TimeToLiveSpecification")
        assert expiry == expiries.pop(name)
        assert table["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"] is True
    assert not definitions


def _rule(rule: dict[str, Any]) -> tuple[Any, ...]:
    """A lifecycle rule, in CloudFormation's or in S3's own words."""
    expiration = rule.get("Expiration", {})
    days = rule.get("ExpirationInDays", expiration.get("Days"))
    old = rule.get("NoncurrentVersionExpiration", {}).get("NoncurrentDays")
    parts = rule.get("AbortIncompleteMultipartUpload", {}).get("DaysAfterInitiation")
    marker = "ExpiredObjectDeleteMarker" in rule or "ExpiredObjectDeleteMarker" in expiration
    if isinstance(days, dict):
        days = TEMPLATES["storage"]["Parameters"][days["Ref"]]["Default"]
    prefix = rule.get("Prefix", rule.get("Filter", {}).get("Prefix", ""))
    return (rule.get("Id", rule.get("ID")), prefix, days, old, parts, marker)


@pytest.mark.parametrize(
    ("logical_id", "bucket"),
    [("DicomBucket", names.DICOM_BUCKET), ("ResultsBucket", names.RESULTS_BUCKET)],
)
def test_the_lifecycle_is_that_of_the_local_cloud(logical_id: str, bucket: str) -> None:
    found = resource(logical_id)["LifecycleConfiguration"]["Rules"]
    wanted: list[Any] = list(local_resources.lifecycle()[bucket])
    assert [_rule(each) for each in found] == [_rule(each) for each in wanted]
    assert all(each["Status"] == "Enabled" for each in found)


def test_manifests_outlive_what_they_say_is_to_be_deleted() -> None:
    parameters = TEMPLATES["storage"]["Parameters"]
    assert parameters["ManifestRetentionDays"]["MinValue"] > parameters["RetentionDays"]["MaxValue"]


def test_a_manifest_and_a_dropped_object_reach_the_queue() -> None:
    configured = resource("DicomBucket")["NotificationConfiguration"]["QueueConfigurations"]
    filters = [
        {each["Name"]: each["Value"] for each in one["Filter"]["S3Key"]["Rules"]}
        for one in configured
    ]
    assert filters == [
        {"prefix": MANIFESTS_PREFIX, "suffix": MANIFEST_SUFFIX},
        {"prefix": DROPBOX_PREFIX},
    ]
    assert {one["Event"] for one in configured} == {"s3:ObjectCreated:*"}
    assert {one["Queue"]["Fn::GetAtt"][0] for one in configured} == {"ImportQueue"}
    # S3 asks the queue's policy when the bucket is made, so the policy comes first.
    bucket = TEMPLATES["storage"]["Resources"]["DicomBucket"]
    assert "ImportQueuePolicy" in bucket["DependsOn"]
    allowed = statements(resource("ImportQueuePolicy")["PolicyDocument"])[0]
    assert allowed["Principal"] == {"Service": "s3.amazonaws.com"}
    assert allowed["Action"] == "sqs:SendMessage"
    arn = allowed["Condition"]["ArnEquals"]["aws:SourceArn"]["Fn::Sub"]
    assert arn == "arn:${AWS::Partition}:s3:::" + resource("DicomBucket")["BucketName"]["Fn::Sub"]
    assert resource("ImportQueue")["RedrivePolicy"]["maxReceiveCount"] == 5


def test_a_message_stays_hidden_six_times_as_long_as_its_function_may_run() -> None:
    timeout = CONFIG["stages"]["dev"]["lambda_functions"]["trigger_import"]["lambda_timeout"]
    assert resource("ImportQueue")["VisibilityTimeout"] == 6 * timeout


def test_the_key_serves_every_service_that_is_told_of_it() -> None:
    by_sid = {each["Sid"]: each for each in statements(resource("Key")["KeyPolicy"])}
    through = by_sid["ThroughServicesInThisAccount"]
    services = {
        each["Fn::Sub"].split(".")[0]
        for each in through["Condition"]["StringEquals"]["kms:ViaService"]
    }
    assert services == {"dynamodb", "ecr", "medical-imaging", "s3", "secretsmanager", "sqs"}
    assert {"kms:Decrypt", "kms:GenerateDataKey*", "kms:CreateGrant"} <= set(through["Action"])
    # A bucket's notification and an alarm are no caller of the account's.
    assert set(by_sid["BucketNotificationsAndAlarms"]["Principal"]["Service"]) == {
        "cloudwatch.amazonaws.com",
        "s3.amazonaws.com",
    }
    users = {
        each["Type"].split("::")[1]
        for _, each in resources()
        if "KeyArn" in json.dumps(each) or '"Key", "Arn"' in json.dumps(each)
    }
    assert users == {"DynamoDB", "ECR", "HealthImaging", "Logs", "S3", "SNS", "SQS"}


def test_every_bucket_is_private_and_takes_tls_only() -> None:
    for name, each in resources("AWS::S3::Bucket"):
        assert set(each["Properties"]["PublicAccessBlockConfiguration"].values()) == {True}
        (deny, *_) = statements(resource(f"{name}Policy")["PolicyDocument"])
        assert (deny["Effect"], deny["Action"]) == ("Deny", "s3:*")
        assert deny["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_the_receiver_gets_no_variable_that_it_does_not_read() -> None:
    receiver = resource("TaskDefinition")["ContainerDefinitions"][0]
    given = {each["Name"] for each in receiver["Environment"]}
    assert given <= {field.alias for field in Settings.model_fields.values()}
    assert {"DICOM_BUCKET", "BATCH_TABLE", "SCP_EMF_NAMESPACE"} <= given
    assert receiver["ReadonlyRootFilesystem"] is True
    assert receiver["StopTimeout"] == 120
    check = receiver["HealthCheck"]["Command"]
    assert check[0] == "CMD"
    assert json.dumps(check[1:]) in (REPOSITORY / "scp" / "Dockerfile").read_text()
    drain_seconds = Settings.model_fields["drain_seconds"].default
    assert drain_seconds + WORKER_SECONDS + HEALTH_SECONDS < receiver["StopTimeout"]


def test_every_choice_of_memory_holds_what_the_receiver_may_need() -> None:
    """docs/store-scp.md has the formula."""
    mappings, mib = TEMPLATES["service"]["Mappings"], 1024**2
    rules = TEMPLATES["service"]["Rules"]
    associations = TEMPLATES["service"]["Parameters"]["MaximumAssociations"]["MaxValue"]
    for cpu, workers in mappings["Cpu"].items():
        assertion = rules[f"MemoryOf{cpu}"]["Assertions"][0]["Assert"]
        allowed = [each for each in texts(assertion) if each in mappings["Memory"]]
        assert allowed
        for memory in allowed:
            used = int(mappings["Memory"][memory]["BufferBytes"]) + 60 * mib
            used += int(workers["Workers"]) * 60 * mib + associations * 256 * 1024
            assert used <= int(memory) * mib, (cpu, memory)


def function_name(function: str) -> str:
    """As Chalice calls them; what answers the REST API has no name of its own."""
    return "dicom-store-scp-${Stage}" + ("" if function == "api_handler" else f"-{function}")


def test_every_function_has_a_log_group_with_an_end_and_an_alarm() -> None:
    groups = [each["Properties"] for _, each in resources("AWS::Logs::LogGroup")]
    of_functions = {f"/aws/lambda/{function_name(each)}" for each in FUNCTIONS}
    assert of_functions <= {each["LogGroupName"]["Fn::Sub"] for each in groups}
    assert all("RetentionInDays" in each for each in groups)
    watched = {
        each["Value"]["Fn::Sub"]
        for _, alarm in resources("AWS::CloudWatch::Alarm")
        for each in walk(alarm)
        if isinstance(each, dict) and each.get("Name") == "FunctionName"
    }
    assert watched == {function_name(each) for each in FUNCTIONS}


def test_every_alarm_wakes_someone_and_says_what_to_do() -> None:
    for _, each in resources("AWS::CloudWatch::Alarm"):
        alarm = each["Properties"]
        assert alarm["AlarmActions"] == alarm["OKActions"] == [{"Ref": "AlarmTopic"}]
        text = alarm["AlarmDescription"]["Fn::Sub"]
        said, _, heading = text.partition("${RunbookURL}: ")
        assert said
        assert heading in HEADINGS, heading
        assert len(text) + 200 <= MAX_DESCRIPTION


def test_the_runbooks_index_leads_from_each_alarm_to_the_heading_that_it_names() -> None:
    index = {
        name: heading
        for names, heading in re.findall(
            r"^\| (`.+`) \| \[(.+)\]\(#.+\) \|$", RUNBOOK, re.MULTILINE
        )
        for name in re.findall(r"`([^`]+)`", names)
    }
    for _, each in resources("AWS::CloudWatch::Alarm"):
        alarm = each["Properties"]
        name = alarm["AlarmName"]["Fn::Sub"].removeprefix("${NamePrefix}-${Stage}-")
        name = "errors-<function>" if name.startswith("errors-") else name
        assert alarm["AlarmDescription"]["Fn::Sub"].endswith(f": {index[name]}"), name


def test_every_alarm_is_documented() -> None:
    documented = (REPOSITORY / "docs" / "observability.md").read_text()
    for _, each in resources("AWS::CloudWatch::Alarm"):
        name = each["Properties"]["AlarmName"]["Fn::Sub"].removeprefix("${NamePrefix}-${Stage}-")
        assert f"`{'errors-<function>' if name.startswith('errors-') else name}`" in documented


def _told() -> set[str]:
    """The metrics of our own that the code tells."""
    told = {each.name.title().replace("_", "") for each in (*Counter, *Gauge)}
    told |= {"UploadSeconds", "WorkersReady", "ClockOffsetSeconds", "CertificateDaysLeft"}
    for path in (REPOSITORY / "chalice_app" / "chalicelib").rglob("*.py"):
        text = path.read_text()
        if "embedded(" in text:
            told |= set(re.findall(r'^ +"([A-Z]\w+)":', text, re.MULTILINE))
    return told


def test_every_metric_of_ours_that_is_looked_at_is_told() -> None:
    prefix = {"Fn::Sub": "${NamePrefix}-${Stage}"}
    looked_at = {
        value["MetricName"]
        for template in TEMPLATES.values()
        for value in walk(template)
        if isinstance(value, dict) and "MetricName" in value and value.get("Namespace") == prefix
    }
    dashboard = resource("Dashboard")["DashboardBody"]["Fn::Sub"][0]
    for widget in json.loads(dashboard)["widgets"]:
        for metric in widget["properties"]["metrics"]:
            if metric[0] == prefix["Fn::Sub"]:
                looked_at.add(metric[1])
    assert looked_at >= {"ImportedInstances", "BacklogSeconds", "UnaccountedObjects"}
    assert looked_at <= _told()


def test_every_template_is_looked_at() -> None:
    assert sorted(path.stem for path in FOLDER.iterdir()) == sorted(NAMES)
