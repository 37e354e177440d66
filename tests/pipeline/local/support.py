"""What the local cloud's tests ask of it."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import pydicom
from pydicom.data import get_testdata_file
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.uid import generate_uid

from local.cloud import Cloud
from local.files import Sample
from local.follow import Ledger, RestClient, until_complete
from local.healthimaging import EmulatorOptions, QuotaProfile
from local.names import LOOPBACK
from local.samples import read
from local.scu import Sent, send

T = TypeVar("T")

FAST = EmulatorOptions(quota_profile=QuotaProfile.NONE, seconds_per_job=0.1)


def send_all(cloud: Cloud, samples: Sequence[Sample]) -> list[Sent]:
    return list(send(samples, LOOPBACK, cloud.dicom_port, "STORESCP"))


def fresh(folder: Path, name: str, count: int = 1) -> list[Sample]:
    """Copies of one of pydicom's files as a study of its own, which no other test has sent."""
    data_set = pydicom.dcmread(str(get_testdata_file(name, download=False)))
    data_set.StudyInstanceUID, data_set.SeriesInstanceUID = generate_uid(), generate_uid()
    paths = [folder / f"{number}-{name}" for number in range(count)]
    for path in paths:
        data_set.SOPInstanceUID = data_set.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        data_set.save_as(path)
    return read(paths)


def settle(rest: RestClient, acknowledged: set[str]) -> Ledger:
    """Follow until every acknowledged instance has ended; fails when one never does."""
    ledger = Ledger(acknowledged)
    for _ in until_complete(ledger, rest, every_seconds=0.25, patience_seconds=45):
        pass
    told = {uid: rest.rows(uid) for uid in ledger.missing}
    assert ledger.complete, f"never ended: {told}; jobs: {ledger.jobs}"
    return ledger


def data_set_of(part10: bytes) -> bytes:
    """What follows the file meta information (PS3.10 7.1): it starts with its own length."""
    assert part10[128:132] == b"DICM"
    assert part10[132:138] == b"\x02\x00\x00\x00UL"
    length = int.from_bytes(part10[140:144], "little")
    return part10[144 + length :]


def sample_data_set(path: Path) -> bytes:
    """The same for a sample, whose file meta information may lack its length."""
    with path.open("rb") as file:
        read_preamble(file, force=False)
        _read_file_meta_info(file)
        return file.read()


def until(what: Callable[[], T | None], seconds: float = 30) -> T:
    """The first true answer of ``what``; the pipeline tells nobody when it is through."""
    deadline = time.monotonic() + seconds
    while not (answer := what()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)
    return answer
