"""Orthanc as the sender: what it sent is what is stored, bit for bit."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.archives import Archive
from tests.interop.orthanc import Orthanc, orthanc
from tests.interop.programs import sample
from tests.protocol.receiver import ReceiverProcess

# One file for each of the transfer syntaxes that pydicom has files in.
FILES = {
    "1.2.840.10008.1.2": "rtplan.dcm",
    "1.2.840.10008.1.2.1": "CT_small.dcm",
    "1.2.840.10008.1.2.1.99": "image_dfl.dcm",
    "1.2.840.10008.1.2.2": "ExplVR_BigEnd.dcm",
    "1.2.840.10008.1.2.4.50": "examples_ybr_color.dcm",
    "1.2.840.10008.1.2.4.51": "JPEG-lossy.dcm",
    "1.2.840.10008.1.2.4.70": "SC_rgb_jpeg_gdcm.dcm",
    "1.2.840.10008.1.2.4.80": "emri_small_jpeg_ls_lossless.dcm",
    "1.2.840.10008.1.2.4.90": "US1_J2KR.dcm",
    "1.2.840.10008.1.2.4.91": "US1_J2KI.dcm",
    "1.2.840.10008.1.2.5": "MR_small_RLE.dcm",
}


@pytest.fixture(scope="module")
def receiver(
    certificates: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ReceiverProcess]:
    """One for all tests: Orthanc is told at its start where it listens."""
    with ReceiverProcess(
        STORAGE_DIR=str(tmp_path_factory.mktemp("storage")),
        SCP_TLS_PORT="0",
        SCP_TLS_CERTIFICATE=str(certificates / "storescp.pem"),
        SCP_TLS_KEY=str(certificates / "storescp.key"),
        SCP_TLS_CLIENT_CA=str(certificates / "ca.pem"),
        REQUIRE_CALLED_AE_TITLE="true",
    ) as process:
        yield process


@pytest.fixture(scope="module")
def sender(
    receiver: ReceiverProcess,
    reference: Archive,
    certificates: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Orthanc]:
    def modality(port: int, title: str = "STORESCP", **more: object) -> dict[str, object]:
        return {"AET": title, "Host": "127.0.0.1", "Port": port, **more}

    modalities = {
        "ours": modality(receiver.port),
        "secured": modality(receiver.tls_port, UseDicomTls=True),
        "other": modality(receiver.port, "SOMEBODY"),
        "reference": modality(reference.port),
    }
    with orthanc(
        tmp_path_factory.mktemp("orthanc"),
        modalities,
        DicomTlsCertificate=str(certificates / "ct1.pem"),
        DicomTlsPrivateKey=str(certificates / "ct1.key"),
        DicomTlsTrustedCertificates=str(certificates / "ca.pem"),
    ) as running:
        yield running


@pytest.mark.parametrize("modality", ["ours", "secured"])
def test_orthancs_echo_is_answered(sender: Orthanc, modality: str) -> None:
    assert sender.echo(modality)


def test_orthanc_calling_another_title_is_rejected(
    sender: Orthanc, receiver: ReceiverProcess
) -> None:
    assert not sender.echo("other")
    receiver.wait_for("association", called_ae="SOMEBODY", outcome="rejected")


@pytest.mark.parametrize(("transfer_syntax", "name"), FILES.items())
def test_what_orthanc_sends_is_stored_as_sent(
    sender: Orthanc, ours: Archive, reference: Archive, transfer_syntax: str, name: str
) -> None:
    instance = sender.upload(sample(name).read_bytes())
    held = ours.takes(lambda _: sender.store("ours", [instance]))
    assert held == reference.takes(lambda _: sender.store("reference", [instance]))
    assert [each.transfer_syntax for each in held] == [transfer_syntax]


@pytest.mark.parametrize("modality", ["ours", "secured"])
def test_orthanc_sends_a_study_of_many_on_one_association(
    sender: Orthanc, ours: Archive, reference: Archive, receiver: ReceiverProcess, modality: str
) -> None:
    patients = (sample("CT_small.dcm").parent / "dicomdirtests").glob("[0-9]*")
    files = [each for patient in patients for each in patient.rglob("*") if each.is_file()]
    instances = [sender.upload(each.read_bytes()) for each in files]
    held = ours.takes(lambda _: sender.store(modality, instances))
    assert held == reference.takes(lambda _: sender.store("reference", instances))
    assert held.total() == len(files)
    receiver.wait_for("association", calling_ae="ORTHANC", stored=held.total(), refused=0)
