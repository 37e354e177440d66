"""Layouts: the structure of public files, and nothing of what they say."""

from collections.abc import Iterator
from io import BytesIO

import pydicom
import pytest
from pydicom.dataset import Dataset

from bench.receiver.elements import element, item, sequence
from bench.receiver.layouts import LAYOUTS, VARIANTS, Layout, header

# Values that tell nothing about anybody, and are as few as can be.
TELLING_BYTES = 6
TEXTS = {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UI", "UT"}
KEPT = {"SOPClassUID", "SpecificCharacterSet"}


def real(layout: Layout) -> Dataset:
    return pydicom.dcmread(layout.path)


def made_up(layout: Layout, variant: int = 0) -> Dataset:
    return pydicom.dcmread(BytesIO(header(layout, variant, {}).encoded), force=True)


def values(data_set: Dataset) -> Iterator[tuple[str, str]]:
    """Keyword and text of every element, at any depth."""
    for each in data_set:
        if each.VR == "SQ":
            for nested in each.value:
                yield from values(nested)
        elif each.VR in TEXTS and each.tag.group < 0x7FE0:
            yield each.keyword, str(each.value)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_a_header_has_the_tags_vrs_and_items_of_the_real_one(layout: Layout) -> None:
    theirs, ours = real(layout), made_up(layout)
    for tag in theirs.keys():  # noqa: SIM118 - elements as they are, not converted
        if tag.element == 0 or tag.group >= 0x7FE0:
            continue
        assert ours[tag].VR == theirs[tag].VR
        if theirs[tag].VR == "SQ" and not (layout.frames > 1 and tag == 0x52009230):
            assert len(ours[tag].value) == len(theirs[tag].value)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_nothing_that_a_real_header_says_is_left(layout: Layout) -> None:
    said = {text for name, text in values(real(layout)) if name not in KEPT}
    telling = {text for text in said if len(text) >= TELLING_BYTES}
    for variant in range(VARIANTS):
        left = {text for name, text in values(made_up(layout, variant)) if name not in KEPT}
        assert not telling & left


def test_the_layouts_are_short_and_long_plain_private_and_nested() -> None:
    counts = [sum(1 for _ in made_up(layout).iterall()) for layout in LAYOUTS]
    assert min(counts) < 40
    assert max(counts) > 300
    assert any(each.tag.is_private for each in made_up(LAYOUTS[0]))
    assert len({layout.sop_class_uid for layout in LAYOUTS}) > 5


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_a_header_is_the_same_each_time_and_another_in_each_variant(layout: Layout) -> None:
    headers = [header(layout, variant, {}) for variant in range(VARIANTS)]
    assert headers == [header(layout, variant, {}) for variant in range(VARIANTS)]
    assert len({len(each.sop_instance_uid) for each in headers}) == VARIANTS
    for each in headers:
        assert each.encoded.count(each.sop_instance_uid.encode()) == 1


def test_fixed_values_are_in_their_places_also_where_the_layout_has_none() -> None:
    fixed = {0x00280008: ("IS", b"400"), 0x00100010: ("PN", b"Made^Up")}
    data_set = pydicom.dcmread(BytesIO(header(LAYOUTS[0], 0, fixed).encoded), force=True)
    assert (data_set.NumberOfFrames, data_set.PatientName) == (400, "Made^Up")
    assert list(data_set.keys()) == sorted(data_set.keys())


def test_elements_are_what_pydicom_reads() -> None:
    nested = element(0x00080100, "SH", b"CODE1")
    items = [item(nested, undefined=True), item(nested, undefined=False)]
    for undefined in (True, False):
        encoded = sequence(0x00081140, items, undefined=undefined) + element(
            0x00091001, "UN", b"123"
        )
        read = pydicom.dcmread(BytesIO(encoded), force=True)
        assert [each.CodeValue for each in read[0x00081140].value] == ["CODE1", "CODE1"]
        assert read[0x00091001].value == b"123\0"
