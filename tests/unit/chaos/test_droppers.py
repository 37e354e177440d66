import random
import threading
from collections import Counter

import boto3
import pytest

from local import names
from tests.chaos import droppers
from tests.chaos.deeds import Archive
from tests.chaos.droppers import Drop, Dropper
from tests.chaos.ledger import Answer, Ledger
from tests.chaos.weather import Endpoint


class Turns(threading.Event):
    """Does not wait, and is set after so many turns."""

    def __init__(self, turns: int) -> None:
        super().__init__()
        self._left = turns

    def wait(self, timeout: float | None = None) -> bool:
        if timeout == 0:
            return False
        self._left -= 1
        return self._left < 0


def test_every_kind_is_dropped_and_what_s3_took_is_in_the_ledger(
    server: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(droppers, "_PAUSES", (1.0, 1.0))
    monkeypatch.setattr(droppers, "_REPLACED_WITHIN", 0)
    s3, ledger, archive = boto3.client("s3", endpoint_url=server.url), Ledger(), Archive(server.url)
    s3.create_bucket(Bucket=names.DICOM_BUCKET)
    drops: Counter[Drop] = Counter()
    try:
        chance = random.Random(1)  # noqa: S311 - faults, not secrets
        Dropper(s3, ledger, archive, chance, Turns(len(Drop)), drops).run()
        listed = s3.list_objects_v2(Bucket=names.DICOM_BUCKET, Prefix="dropbox/")["Contents"]
    finally:
        for each in s3.list_objects_v2(Bucket=names.DICOM_BUCKET).get("Contents", []):
            s3.delete_object(Bucket=names.DICOM_BUCKET, Key=each["Key"])
        s3.delete_bucket(Bucket=names.DICOM_BUCKET)
    assert drops.keys() == set(Drop)
    # The other of the two that were replaced is gone.
    images = len(listed) - drops[Drop.NO_DICOM] - drops[Drop.FOLDER]
    assert ledger.count(Answer.ACKNOWLEDGED) == images
    assert ledger.count(Answer.NONE) == drops[Drop.REPLACED]
    assert len(archive.outages.all()) == drops[Drop.ARCHIVED]
