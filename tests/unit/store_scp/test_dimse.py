import dataclasses
import hashlib

import pytest
from store_scp.dimse.services import StoreRequest, accept_store
from store_scp.dimse.status import Category, Status
from store_scp.errors import StoreRefused

from tests.unit.store_scp.builders import CT_IMAGE, EXPLICIT_LE, SOP_CLASS, data_set, sender

VERIFICATION = "1.2.840.10008.1.1"
GOOD = StoreRequest(CT_IMAGE, "1.2.3.4", CT_IMAGE, EXPLICIT_LE, memoryview(data_set()))
UNREADABLE = memoryview(data_set()[:30])


def refusal(request: StoreRequest, max_bytes: int = 10_000) -> Status:
    with pytest.raises(StoreRefused) as caught:
        accept_store(request, sender(), max_bytes)
    return caught.value.status


def test_a_good_request_gives_an_instance_with_the_data_set_untouched() -> None:
    instance = accept_store(GOOD, sender(), 10_000)
    assert GOOD.data_set is not None
    assert instance.data_set is GOOD.data_set
    whole = instance.file_meta + bytes(instance.data_set)
    assert instance.size == len(whole)
    assert instance.checksum == instance.checksum.of(whole)
    assert hashlib.sha256(instance.data_set).digest() == hashlib.sha256(data_set()).digest()


@pytest.mark.parametrize("uid", ["", "../..", "1.2\n", "1" * 65, ";$(x)", "1..2"])
def test_a_command_without_a_valid_instance_uid_is_0117(uid: str) -> None:
    request = dataclasses.replace(GOOD, affected_sop_instance_uid=uid)
    assert refusal(request) is Status.INVALID_SOP_INSTANCE


@pytest.mark.parametrize("uid", ["", "1.2.840.10008.5.1.4.1.1.4", VERIFICATION])
def test_a_class_that_is_not_the_contexts_is_0122(uid: str) -> None:
    request = dataclasses.replace(GOOD, affected_sop_class_uid=uid)
    assert refusal(request) is Status.SOP_CLASS_NOT_SUPPORTED


def test_nothing_is_stored_on_a_verification_context() -> None:
    request = StoreRequest(
        VERIFICATION,
        "1.2.3.4",
        VERIFICATION,
        EXPLICIT_LE,
        memoryview(data_set(replaced={SOP_CLASS: b"1.2.840.10008.1.1\x00"})),
    )
    assert refusal(request) is Status.SOP_CLASS_NOT_SUPPORTED


@pytest.mark.parametrize("absent", [None, memoryview(b"")])
def test_a_request_without_a_data_set_is_refused(absent: memoryview | None) -> None:
    assert refusal(dataclasses.replace(GOOD, data_set=absent)) is Status.NO_DATA_SET


def test_command_and_data_set_must_name_the_same_class_and_instance() -> None:
    other_uid = dataclasses.replace(GOOD, affected_sop_instance_uid="1.2.3.5")
    assert refusal(other_uid) is Status.DATA_SET_MISMATCH
    mr_image = "1.2.840.10008.5.1.4.1.1.4"
    other_class = dataclasses.replace(
        GOOD, affected_sop_class_uid=mr_image, abstract_syntax=mr_image
    )
    assert refusal(other_class) is Status.DATA_SET_MISMATCH


def test_an_instance_over_the_cap_is_out_of_resources() -> None:
    assert refusal(GOOD, max_bytes=len(data_set()) - 1) is Status.OUT_OF_RESOURCES


def test_the_first_broken_rule_decides() -> None:
    everything = StoreRequest("", "", CT_IMAGE, EXPLICIT_LE, None)
    assert refusal(everything) is Status.INVALID_SOP_INSTANCE
    named = dataclasses.replace(everything, affected_sop_instance_uid="1.2.3.4")
    assert refusal(named) is Status.SOP_CLASS_NOT_SUPPORTED
    unreadable = dataclasses.replace(GOOD, affected_sop_instance_uid="9.9", data_set=UNREADABLE)
    assert refusal(unreadable) is Status.UNREADABLE_HEADER
    assert refusal(dataclasses.replace(GOOD, data_set=UNREADABLE), 1) is Status.UNREADABLE_HEADER


def test_every_status_has_its_own_code_and_a_comment_that_fits() -> None:
    codes = [each.code for each in Status]
    assert len(set(codes)) == len(codes)
    for each in Status:
        assert 0 < len(each.comment) <= 64
        assert each.comment.isascii()
        assert each.clause.startswith("PS3.")
        assert (each.category is Category.SUCCESS) == (each.code == 0)


def test_a_status_is_logged_as_the_standard_writes_it() -> None:
    assert str(Status.OUT_OF_RESOURCES) == "A700H"
    assert str(Status.SOP_CLASS_NOT_SUPPORTED) == "0122H"
