"""pynetdicom as the sender, which sends a file's bytes as they are."""

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, _config
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import AsynchronousOperationsWindowNegotiation
from pynetdicom.presentation import PresentationContext, build_context
from store_scp.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, file_meta

from tests.interop.archives import Archive, stored
from tests.interop.programs import sample
from tests.protocol.corpus import Sample, _sample

VERIFICATION = "1.2.840.10008.1.1"
CT = build_context(CTImageStorage, ExplicitVRLittleEndian)
PDU_SIZES = (0, 4096)


@pytest.fixture(scope="session")
def files() -> list[Sample]:
    """Every file of pydicom and pydicom-data that C-STORE can carry; some are of one instance."""
    roots = (Path(pydicom.__file__).parent / "data", sample("693_J2KR.dcm").parent)
    paths = sorted(path for root in roots for path in root.rglob("*") if path.is_file())
    return [found for found in map(_sample, paths) if found]


@pytest.fixture(autouse=True)
def bytes_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_config, "STORE_SEND_CHUNKED_DATASET", True)


@contextmanager
def associated(
    port: int,
    contexts: Sequence[PresentationContext],
    max_pdu: int = 16_382,
    window: tuple[int, int] | None = None,
) -> Iterator[Association]:
    extended = []
    if window is not None:
        item = AsynchronousOperationsWindowNegotiation()
        item.maximum_number_operations_invoked, item.maximum_number_operations_performed = window
        extended.append(item)
    association = AE("PYNETDICOM").associate(
        "127.0.0.1",
        port,
        list(contexts),
        ae_title="STORESCP",
        max_pdu=max_pdu,
        ext_neg=extended,  # type: ignore[arg-type]
    )
    assert association.is_established
    connection = association.dul.socket
    assert connection is not None
    assert connection.socket is not None
    # Without it each message waits 44 ms for an acknowledgement.
    connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        yield association
    finally:
        association.release()
    assert association.is_released


def part10(each: Sample) -> bytes:
    """The data set under a file meta that agrees with it: pynetdicom goes by that."""
    header = each.header
    meta = file_meta(header.sop_class_uid, header.sop_instance_uid, each.transfer_syntax)
    return meta + each.data_set


def send(port: int, files: Sequence[Sample], folder: Path, max_pdu: int) -> None:
    wanted = {(each.header.sop_class_uid, each.transfer_syntax) for each in files}
    with associated(
        port, [build_context(*each) for each in sorted(wanted)], max_pdu
    ) as association:
        for each in files:
            path = folder / "instance.dcm"
            path.write_bytes(part10(each))
            assert association.send_c_store(path).Status == 0, each.name
            while association._is_paused:  # as its reactor may be still, and take the next answer
                time.sleep(0.001)


@pytest.mark.parametrize("max_pdu", PDU_SIZES)
def test_every_file_arrives_bit_for_bit_in_its_own_transfer_syntax(
    ours: Archive, files: list[Sample], tmp_path: Path, max_pdu: int
) -> None:
    held = ours.takes(lambda port: send(port, files, tmp_path, max_pdu))
    assert set(held) == {stored(part10(each)) for each in files}
    assert len({each.transfer_syntax for each in held}) == 11


@pytest.mark.parametrize(
    ("proposed", "granted"), [((4, 1), (4, 1)), ((100, 100), (8, 1)), ((0, 0), (8, 1))]
)
def test_a_proposed_window_is_granted_up_to_the_setting(
    ours: Archive, proposed: tuple[int, int], granted: tuple[int, int]
) -> None:
    with associated(ours.port, [CT], window=proposed) as association:
        assert association.acceptor.asynchronous_operations == granted
        path = sample("CT_small.dcm")
        assert association.send_c_store(path).Status == 0


def test_no_window_is_granted_to_who_proposed_none(ours: Archive) -> None:
    with associated(ours.port, [CT]) as association:
        items = association.acceptor.user_information
        assert not any(isinstance(e, AsynchronousOperationsWindowNegotiation) for e in items)


@pytest.mark.parametrize("max_pdu", PDU_SIZES)
def test_the_receiver_says_who_it_is_and_which_pdus_it_takes(ours: Archive, max_pdu: int) -> None:
    with associated(ours.port, [build_context(VERIFICATION)], max_pdu) as association:
        acceptor = association.acceptor
        assert acceptor.maximum_length == 131_072
        assert acceptor.implementation_class_uid == IMPLEMENTATION_CLASS_UID
        assert acceptor.implementation_version_name == IMPLEMENTATION_VERSION_NAME
        assert association.send_c_echo().Status == 0
