"""DeleteImageSet: what is seen while an image set goes, and after it is gone."""

from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.healthimaging import Emulator, EmulatorOptions, QuotaProfile
from tests.pipeline.healthimaging.caller import FAST, Caller, refusal

SLOW = replace(FAST, seconds_per_deletion=60.0)


@pytest.fixture
def where(aws: Caller, datastore: str) -> dict[str, str]:
    """An image set that two imports made: the arguments that name it."""
    aws.put("in/ct.dcm", "CT_small.dcm")
    aws.import_all(datastore, "in/", "first")
    aws.import_all(datastore, "in/", "second")
    (image_set,) = found(aws, datastore)
    return {"datastoreId": datastore, "imageSetId": image_set["imageSetId"]}


def found(aws: Caller, datastore: str) -> list[dict[str, Any]]:
    answer = aws("search_image_sets", datastoreId=datastore)
    summaries: list[dict[str, Any]] = answer["imageSetsMetadataSummaries"]
    return summaries


def test_an_image_set_is_locked_while_it_is_deleted(
    aws: Caller, emulator: Emulator, where: dict[str, str]
) -> None:
    emulator.configure(SLOW)
    deleting = aws("delete_image_set", **where)
    deleting.pop("ResponseMetadata")
    assert deleting == where | {"imageSetState": "LOCKED", "imageSetWorkflowStatus": "DELETING"}
    aws.clock.advance(59)
    seen = aws("get_image_set", **where)
    assert (seen["imageSetState"], seen["imageSetWorkflowStatus"]) == ("LOCKED", "DELETING")
    assert seen["versionId"] == "2"
    with pytest.raises(ClientError) as error:
        aws("delete_image_set", **where)
    assert refusal(error) == ("ConflictException", 409)


def test_a_deleted_image_set_is_found_by_nothing(
    aws: Caller, datastore: str, where: dict[str, str]
) -> None:
    aws("delete_image_set", **where)
    aws.clock.advance(0)
    assert found(aws, datastore) == []
    for operation in (
        "get_image_set",
        "list_image_set_versions",
        "get_image_set_metadata",
        "delete_image_set",
    ):
        with pytest.raises(ClientError) as error:
            aws(operation, **where)
        assert refusal(error) == ("ResourceNotFoundException", 404), operation
    aws("delete_datastore", datastoreId=datastore)


def test_a_deleted_image_set_may_still_be_told_of_by_get_image_set_alone(
    aws: Caller, emulator: Emulator, where: dict[str, str]
) -> None:
    emulator.configure(replace(SLOW, deleted_image_sets_shown=True))
    aws("delete_image_set", **where)
    assert "deletedAt" not in aws("get_image_set", **where)
    aws.clock.advance(60)
    seen = aws("get_image_set", **where)
    assert (seen["imageSetState"], seen["imageSetWorkflowStatus"]) == ("DELETED", "DELETED")
    assert seen["deletedAt"].timestamp() == aws.clock.now()
    assert found(aws, where["datastoreId"]) == []
    with pytest.raises(ClientError) as error:
        aws("delete_image_set", **where)
    assert refusal(error) == ("ResourceNotFoundException", 404)


@pytest.mark.parametrize("seconds", [0, 3600])
def test_an_import_after_a_deletion_makes_a_new_primary_image_set(
    aws: Caller, emulator: Emulator, where: dict[str, str], seconds: int
) -> None:
    """Also when the old one is still LOCKED: it takes nothing of what comes now with it."""
    emulator.configure(replace(FAST, seconds_per_deletion=seconds))
    aws("delete_image_set", **where)
    aws.clock.advance(0)
    aws.import_all(where["datastoreId"], "in/", "third")
    aws.clock.advance(seconds)
    (image_set,) = found(aws, where["datastoreId"])
    assert image_set["imageSetId"] != where["imageSetId"]
    assert (image_set["version"], image_set["isPrimary"]) == (1, True)
    assert image_set["DICOMTags"]["DICOMNumberOfStudyRelatedSeries"] == 1


def test_a_deletion_is_told_when_it_begins_and_when_it_ends(
    aws: Caller, emulator: Emulator, where: dict[str, str]
) -> None:
    emulator.configure(SLOW)
    told: list[tuple[str, Any, str]] = []
    emulator.listen(lambda *event: told.append(event))
    arn = aws("get_image_set", **where)["imageSetArn"]
    aws("delete_image_set", **where)
    ((began_type, began, began_arn),) = told
    aws.clock.advance(60)
    _, (ended_type, ended, ended_arn) = told
    assert (began_type, ended_type) == ("Image Set Deleting", "Image Set Deleted")
    assert (began_arn, ended_arn) == (arn, arn)
    assert began == {
        "imagingVersion": "1.0",
        "isPrimary": True,
        "imageSetVersion": "2",
        "datastoreId": where["datastoreId"],
        "imagesetId": where["imageSetId"],
        "imageSetState": "LOCKED",
        "imageSetWorkflowStatus": "DELETING",
    }
    assert ended == began | {"imageSetState": "DELETED", "imageSetWorkflowStatus": "DELETED"}


def test_a_deletion_that_is_under_way_ends_nowhere_after_a_reset(
    aws: Caller, emulator: Emulator, where: dict[str, str]
) -> None:
    emulator.configure(SLOW)
    aws("delete_image_set", **where)
    told: list[str] = []
    emulator.listen(lambda detail_type, *_: told.append(detail_type))
    aws.reset()
    aws.clock.advance(60)
    assert told == []


@pytest.mark.parametrize("profile", [QuotaProfile.Y2026, QuotaProfile.Y2023])
def test_image_sets_are_deleted_one_in_four_seconds(
    aws: Caller, emulator: Emulator, datastore: str, profile: QuotaProfile
) -> None:
    emulator.configure(EmulatorOptions(quota_profile=profile))
    nothing = {"datastoreId": datastore, "imageSetId": "0" * 32}
    codes = []
    for seconds in (0, 3, 1):
        aws.clock.advance(seconds)
        with pytest.raises(ClientError) as error:
            aws("delete_image_set", **nothing)
        codes.append(refusal(error)[0])
    found_nothing, throttled = "ResourceNotFoundException", "ThrottlingException"
    assert codes == [found_nothing, throttled, found_nothing]
