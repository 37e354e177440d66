from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file

from local import samples
from local.errors import LocalCloudError


def test_the_demo_covers_what_a_hospital_sends() -> None:
    chosen = samples.read(samples.bundled())
    syntaxes = {each.transfer_syntax_uid for each in chosen}
    assert len(chosen) == len({each.sop_instance_uid for each in chosen}) >= 40
    assert {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"} <= syntaxes
    assert len(syntaxes) >= 7


def test_a_generated_study_is_one_series_of_distinct_instances(tmp_path: Path) -> None:
    slices = samples.read(samples.generate_ct_study(tmp_path, slices=3))
    read = [pydicom.dcmread(each.path) for each in slices]
    assert len({each.sop_instance_uid for each in slices}) == 3
    assert len({each.StudyInstanceUID for each in read}) == 1
    assert len({each.SeriesInstanceUID for each in read}) == 1
    assert [len(each.PixelData) for each in read] == [524_288] * 3


def test_a_dicomdir_is_not_sent() -> None:
    with pytest.raises(LocalCloudError, match="no DICOM"):
        samples.read([Path(str(get_testdata_file("DICOMDIR")))])
