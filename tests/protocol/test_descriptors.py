"""A worker whose file descriptors run out (docs/faults.md)."""

import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.protocol.peer import Peer, Wire
from tests.protocol.receiver import ReceiverProcess
from tests.protocol.vitals import CT, GOOD, GOOD_INSTANCE, store_well, until
from tests.unit.store_scp.builders import CT_IMAGE

_LIMIT = 128
_PEERS = 150


@pytest.mark.fault("descriptors")
@pytest.mark.skipif(shutil.which("prlimit") is None, reason="util-linux is not installed")
def test_connections_are_refused_before_there_is_no_descriptor_to_store_with(
    tmp_path: Path,
) -> None:
    limited = ("prlimit", f"--nofile={_LIMIT}:{_LIMIT}")
    with ReceiverProcess(*limited, STORAGE_DIR=str(tmp_path)) as process:
        with ExitStack() as opened:
            good = opened.enter_context(Peer(process.port, CT))
            wires = [opened.enter_context(Wire(process.port)) for _ in range(_PEERS)]
            refused = "connections_total{kind=refused_descriptors}"
            connected = "open_connections"
            until(
                lambda: process.metrics()[refused] + process.metrics()[connected] > _PEERS,
                "a connection is neither open nor refused",
            )
            assert _LIMIT / 4 < process.metrics()[connected] < _LIMIT
            assert sum(each.ended_silently() for each in wires[-10:]) == 10
            assert good.store(GOOD, CT_IMAGE, GOOD_INSTANCE).status == 0x0000
        until(lambda: not process.metrics()[connected], "a connection is open")
        store_well(process)
        (line,) = process.events("descriptors_exhausted")
        assert line["limit"] == _LIMIT
        assert not process.events("unexpected")
