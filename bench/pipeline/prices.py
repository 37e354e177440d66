"""AWS's public list prices, us-east-1, on demand, without any free tier. One table."""

from dataclasses import dataclass
from enum import StrEnum


class Unit(StrEnum):
    """What is counted, as the bill names it."""

    S3_PUT = "S3: PUT and LIST requests"
    S3_GET = "S3: GET requests"
    SQS = "SQS: requests"
    LAMBDA_REQUEST = "Lambda: requests"
    LAMBDA_GB_SECOND = "Lambda: GB-seconds, x86"
    TRANSITION = "Step Functions: state transitions, Standard"
    WRITE_UNIT = "DynamoDB: write request units"
    READ_UNIT = "DynamoDB: read request units"
    EVENT = "EventBridge: events"
    LOG_GB = "CloudWatch: GB of logs taken in"
    VCPU_HOUR = "Fargate: vCPU hours, x86"
    MEMORY_GB_HOUR = "Fargate: GB hours of memory"
    NLB_HOUR = "Network Load Balancer: hours"
    NLCU_HOUR = "Network Load Balancer: capacity unit hours"
    STORED_GB_MONTH = "HealthImaging: GB-months, Frequent Access"


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars for so many units."""

    dollars: float
    units: int
    source: str

    @property
    def each(self) -> float:
        """Dollars for one."""
        return self.dollars / self.units


_MILLION = 1_000_000
_PAGE = "https://aws.amazon.com/{}/pricing/".format

PRICES = {
    Unit.S3_PUT: Price(0.005, 1_000, _PAGE("s3")),
    Unit.S3_GET: Price(0.0004, 1_000, _PAGE("s3")),
    Unit.SQS: Price(0.40, _MILLION, _PAGE("sqs")),
    Unit.LAMBDA_REQUEST: Price(0.20, _MILLION, _PAGE("lambda")),
    Unit.LAMBDA_GB_SECOND: Price(16.6667, _MILLION, _PAGE("lambda")),
    Unit.TRANSITION: Price(0.025, 1_000, _PAGE("step-functions")),
    Unit.WRITE_UNIT: Price(0.625, _MILLION, _PAGE("dynamodb")),
    Unit.READ_UNIT: Price(0.125, _MILLION, _PAGE("dynamodb")),
    Unit.EVENT: Price(1.00, _MILLION, _PAGE("eventbridge")),
    Unit.LOG_GB: Price(0.50, 1, _PAGE("cloudwatch")),
    Unit.VCPU_HOUR: Price(0.04048, 1, _PAGE("fargate")),
    Unit.MEMORY_GB_HOUR: Price(0.004445, 1, _PAGE("fargate")),
    Unit.NLB_HOUR: Price(0.0225, 1, _PAGE("elasticloadbalancing")),
    Unit.NLCU_HOUR: Price(0.006, 1, _PAGE("elasticloadbalancing")),
    Unit.STORED_GB_MONTH: Price(0.105, 1, _PAGE("healthimaging")),
}
