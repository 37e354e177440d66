"""Which tests pytest-xdist runs one after another in one of its processes.

Its own ``--dist=loadgroup`` finds no group with pytest 9.2 (pytest-xdist's issue 1386), and one
that is found would say nothing of the tests that best run singly.
"""

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

# Files whose tests share receivers: few processes start them.
_TOGETHER = {
    f"tests/{room}/test_{name}.py": group
    for room, group, names in (
        (
            "protocol",
            "receivers",
            "admission confidentiality data_sets half_open messages pdus probe",
        ),
        ("protocol", "receivers to S3", "interruptions s3_faults window"),
        ("interop", "peers", "dcmtk_associations dcmtk_transfer_syntaxes pynetdicom"),
    )
    for name in names.split()
}
# Files whose tests share nothing: each has a receiver of its own, or waits.
_SINGLY = {
    f"tests/protocol/test_{name}.py"
    for name in ("backpressure", "crash", "drain", "process", "supervisor")
}


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """By file, but for files that go together and for tests that go singly."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return nodeid if file in _SINGLY else _TOGETHER.get(file, file)


def scheduling(config: pytest.Config, log: object) -> Scheduling | None:
    """For ``--dist=loadgroup``; None leaves it to pytest-xdist."""
    if config.getvalue("dist") != "loadgroup":
        return None
    return Scheduling(config, log)
