"""Options that cannot be honoured are refused when they are made."""

from typing import Any

import pytest

from local.healthimaging import EmulatorOptions


@pytest.mark.parametrize(
    "options",
    [
        {"seconds_per_deletion": -1.0},
        {"client_token_seconds": -0.5},
        {"lost_answers": -1},
        {"slow_jobs": -1},
        {"slow_seconds": -1.0},
        {"denied_actions": frozenset({"GetDicomImportJob"})},
        {"failure_message": "what?"},
    ],
)
def test_an_option_that_makes_no_sense_is_named(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=name):
        EmulatorOptions(**options)


def test_the_actions_of_the_service_and_all_of_them_can_be_denied() -> None:
    some = EmulatorOptions(denied_actions=frozenset({"GetDICOMImportJob", "DeleteImageSet"}))
    assert some.denies("GetDICOMImportJob")
    assert not some.denies("StartDICOMImportJob")
    assert EmulatorOptions(denied_actions=frozenset({"*"})).denies("StartDICOMImportJob")
    assert not EmulatorOptions().denies("StartDICOMImportJob")
