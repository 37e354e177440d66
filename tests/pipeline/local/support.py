"""What the local cloud's tests ask of it."""

from collections.abc import Sequence
from pathlib import Path

from pydicom.filereader import _read_file_meta_info, read_preamble

from local.cloud import Cloud
from local.follow import Ledger, RestClient, until_complete
from local.healthimaging import EmulatorOptions, QuotaProfile
from local.names import LOOPBACK
from local.samples import Sample
from local.scu import Sent, send

FAST = EmulatorOptions(quota_profile=QuotaProfile.NONE, seconds_per_job=0.1)


def send_all(cloud: Cloud, samples: Sequence[Sample]) -> list[Sent]:
    return list(send(samples, LOOPBACK, cloud.dicom_port, "STORESCP"))


def settle(rest: RestClient, acknowledged: set[str]) -> Ledger:
    """Follow until every acknowledged instance has ended; fails when one never does."""
    ledger = Ledger(acknowledged)
    for _ in until_complete(ledger, rest, every_seconds=1.0, patience_seconds=45):
        pass
    told = {uid: rest.instance(uid) for uid in ledger.missing}
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
