"""The environment variables that point both processes at the local cloud and at nothing else."""

import os
import shlex
from collections.abc import Mapping

from local import names

# Whatever the user has configured for the real AWS must not be reached from here.
_REAL_AWS = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN", "AWS_ROLE_ARN")
_LOOPBACK_HOSTS = f"{names.LOOPBACK},localhost"


def aws_environment(endpoint_url: str) -> dict[str, str]:
    """What boto3 needs to talk to the local endpoint with made-up credentials."""
    return {
        "AWS_ENDPOINT_URL": endpoint_url,
        "AWS_DEFAULT_REGION": names.REGION,
        "AWS_REGION": names.REGION,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        # HealthImaging's image-set actions would go to runtime-127.0.0.1.
        "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
        "NO_PROXY": _LOOPBACK_HOSTS,
        "no_proxy": _LOOPBACK_HOSTS,
    }


def lambda_environment(datastore_id: str, poll_seconds: int) -> dict[str, str]:
    """The Chalice app's own settings. ``poll_seconds`` is the first wait between two checks.

    Invocations that dispatch are short here: one of them must not keep the queue's next waiting,
    and the schedule's comes within a second or two.
    """
    return {
        "DICOM_BUCKET": names.DICOM_BUCKET,
        "RESULTS_BUCKET": names.RESULTS_BUCKET,
        "STATE_MACHINE_ARN": names.STATE_MACHINE_ARN,
        "DATASTORE_ID": datastore_id,
        "DATA_ACCESS_ROLE_ARN": names.IMPORT_ROLE_ARN,
        "IMPORT_QUEUE_NAME": names.QUEUE,
        "POLL_MIN_SECONDS": str(poll_seconds),
        "DISPATCH_SECONDS": "2",
        # Two minutes on AWS, for clocks that differ: here there is one.
        "RECOVERY_GRACE_SECONDS": "10",
        "STUDY_QUIET_MINUTES": "0.1",
        "LOG_FORMAT": "json",
    }


def without_real_aws(environment: Mapping[str, str]) -> dict[str, str]:
    """``environment`` less the variables that could lead to a real account."""
    return {name: value for name, value in environment.items() if name not in _REAL_AWS}


def as_shell_lines(environment: Mapping[str, str]) -> str:
    """``environment`` for a shell to source; what could lead to a real account is unset."""
    exports = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    return "\n".join([f"unset {' '.join(_REAL_AWS)}", *exports, ""])
