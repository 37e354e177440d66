"""What things are called in the local cloud; on AWS the stacks' outputs say."""

from dataclasses import dataclass
from pathlib import Path

ACCOUNT_ID = "123456789012"  # moto's account
REGION = "us-east-1"
PARTITION = "aws"

DICOM_BUCKET = "local-dicom"
RESULTS_BUCKET = "local-dicom-results"
QUEUE = "dicom-import"
DEAD_LETTER_QUEUE = "dicom-import-dead-letter"
QUEUE_ARN = f"arn:{PARTITION}:sqs:{REGION}:{ACCOUNT_ID}:{QUEUE}"
EVENT_QUEUE = "store-scp-events"
EVENT_QUEUE_ARN = f"arn:{PARTITION}:sqs:{REGION}:{ACCOUNT_ID}:{EVENT_QUEUE}"
STATE_MACHINE = "dicom-import"
DATASTORE = "local"
IMPORT_ROLE_ARN = f"arn:{PARTITION}:iam::{ACCOUNT_ID}:role/dicom-import"
STATE_MACHINE_ROLE_ARN = f"arn:{PARTITION}:iam::{ACCOUNT_ID}:role/dicom-workflow"
STATE_MACHINE_ARN = f"arn:{PARTITION}:states:{REGION}:{ACCOUNT_ID}:stateMachine:{STATE_MACHINE}"

LOOPBACK = "127.0.0.1"
AE_TITLE = "STORESCP"  # of the receiver
BUNDLED = "pydicom"  # the samples that pydicom ships
REPOSITORY = Path(__file__).resolve().parent.parent
DEFINITION = REPOSITORY / "stepfunctions" / "definition.asl.json"
CHALICE_APP = REPOSITORY / "chalice_app"


def lambda_arn(function: str) -> str:
    """The ARN of one of the Chalice functions (here without Chalice's app and stage in front)."""
    return f"arn:{PARTITION}:lambda:{REGION}:{ACCOUNT_ID}:function:{function}"


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the local cloud listens on the loopback address; 0 takes any free port."""

    dicom: int = 11112
    rest: int = 8000
    aws: int = 4566


ANY_FREE_PORTS = Ports(0, 0, 0)
