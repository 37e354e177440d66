"""The product's events, as a viewer would get them: from a queue behind a rule."""

import json
import time
from collections import Counter
from collections.abc import Iterator, Set

import boto3

from local import names
from local.follow import Json


def received(patience_seconds: float) -> Iterator[Json]:
    """Events as they come, for so long."""
    sqs = boto3.client("sqs")
    url = sqs.get_queue_url(QueueName=names.EVENT_QUEUE)["QueueUrl"]
    deadline = time.monotonic() + patience_seconds
    while time.monotonic() < deadline:
        answer = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1, MaxNumberOfMessages=10)
        for message in answer.get("Messages", []):
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            yield json.loads(message["Body"])


def count_until_told(batch_ids: Set[str], patience_seconds: float) -> Counter[str]:
    """How many of each type came until every batch's end was told of, or patience ended."""
    counts: Counter[str] = Counter()
    missing = set(batch_ids)
    for event in received(patience_seconds):
        counts[event["detail-type"]] += 1
        missing.discard(event["detail"].get("batchId", ""))
        if not missing:
            break
    return counts
