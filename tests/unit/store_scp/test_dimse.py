import dataclasses
from functools import partial

import pytest
from store_scp.dimse.services import StoreRequest, check_command, check_header
from store_scp.dimse.status import Category, Status
from store_scp.errors import StoreRefused

from contract.header import Header, read_header
from tests.unit.store_scp.builders import CT_IMAGE, EXPLICIT_LE, data_set

VERIFICATION = "1.2.840.10008.1.1"
GOOD = StoreRequest(CT_IMAGE, "1.2.3.4", CT_IMAGE, EXPLICIT_LE)


def header(data: bytes) -> Header:
    return read_header(memoryview(data), EXPLICIT_LE)


def refusal(request: StoreRequest, data: bytes | None = None) -> Status:
    judge = partial(check_header, header=header(data)) if data is not None else check_command
    with pytest.raises(StoreRefused) as caught:
        judge(request)
    return caught.value.status


def test_a_good_request_is_not_refused() -> None:
    check_command(GOOD)
    check_header(GOOD, header(data_set()))


@pytest.mark.parametrize("uid", ["", "../..", "1.2\n", "1" * 65, ";$(x)", "1..2"])
def test_a_command_without_a_valid_instance_uid_is_0117(uid: str) -> None:
    request = dataclasses.replace(GOOD, affected_sop_instance_uid=uid)
    assert refusal(request) is Status.INVALID_SOP_INSTANCE


@pytest.mark.parametrize("uid", ["", "1.2.840.10008.5.1.4.1.1.4", VERIFICATION])
def test_a_class_that_is_not_the_contexts_is_0122(uid: str) -> None:
    request = dataclasses.replace(GOOD, affected_sop_class_uid=uid)
    assert refusal(request) is Status.SOP_CLASS_NOT_SUPPORTED


def test_nothing_is_stored_on_a_verification_context() -> None:
    request = StoreRequest(VERIFICATION, "1.2.3.4", VERIFICATION, EXPLICIT_LE)
    assert refusal(request) is Status.SOP_CLASS_NOT_SUPPORTED


def test_command_and_data_set_must_name_the_same_class_and_instance() -> None:
    other_uid = dataclasses.replace(GOOD, affected_sop_instance_uid="1.2.3.5")
    assert refusal(other_uid, data_set()) is Status.DATA_SET_MISMATCH
    mr_image = "1.2.840.10008.5.1.4.1.1.4"
    other_class = StoreRequest(mr_image, "1.2.3.4", mr_image, EXPLICIT_LE)
    assert refusal(other_class, data_set()) is Status.DATA_SET_MISMATCH


def test_the_first_broken_rule_decides() -> None:
    everything = StoreRequest("", "", CT_IMAGE, EXPLICIT_LE)
    assert refusal(everything) is Status.INVALID_SOP_INSTANCE
    named = dataclasses.replace(everything, affected_sop_instance_uid="1.2.3.4")
    assert refusal(named) is Status.SOP_CLASS_NOT_SUPPORTED


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
