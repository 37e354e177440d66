"""CloudWatch's embedded metric format: a log line of which CloudWatch makes metrics.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any


def embedded(namespace: str, at: datetime, values: Mapping[str, float]) -> dict[str, Any]:
    """The line's members; a value whose name ends in ``Seconds`` is a time, any other a count."""
    definition = {
        "Namespace": namespace,
        "Dimensions": [[]],
        "Metrics": [
            {"Name": name, "Unit": "Seconds" if name.endswith("Seconds") else "Count"}
            for name in values
        ],
    }
    at_ms = int(at.timestamp() * 1000)
    return {"_aws": {"Timestamp": at_ms, "CloudWatchMetrics": [definition]}, **values}
