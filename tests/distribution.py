"""Which tests pytest-xdist runs one after another in one of its processes, with --dist=loadfile.

By file, but for files that share what takes long to start, and for files whose tests best go one
by one. pytest-xdist's own groups do nothing with pytest 9.2: the node ids are no longer what it
appends a group's name to (pytest-xdist's issue 1386).
"""

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

# Files whose tests share receivers or the local cloud: few processes start them.
TOGETHER = {
    f"tests/{room}/test_{name}.py": group
    for room, group, names in (
        (
            "protocol",
            "receivers",
            "admission confidentiality data_sets half_open messages pdus probe",
        ),
        ("protocol", "receivers to S3", "interruptions s3_faults window"),
        ("interop", "peers", "dcmtk_associations dcmtk_transfer_syntaxes pynetdicom"),
        ("pipeline/local", "local cloud", "events local_cloud roads storable_files"),
    )
    for name in names.split()
}
# Files whose tests share nothing: each has a receiver of its own, or waits, or computes for long.
ONE_BY_ONE = {
    f"tests/protocol/test_{name}.py"
    for name in ("backpressure", "crash", "drain", "process", "supervisor")
} | {"tests/model/test_claim_races.py"}


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """A scope is a file, a group of files, or a single test."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return nodeid if file in ONE_BY_ONE else TOGETHER.get(file, file)


def scheduling(config: pytest.Config, log: object) -> Scheduling | None:
    """None leaves another --dist to pytest-xdist."""
    return Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None
