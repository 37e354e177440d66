"""Every handler dies right after each of its calls, on the twins of what it runs on.

It is then invoked again, as AWS does; what is kept in the end must be what is kept without a crash.
Another module has the same cases on moto, and sees that both clouds end alike.
"""

import pytest

from tests.pipeline.chalicelib.crash_cases import CASES
from tests.pipeline.chalicelib.crash_memory import in_memory
from tests.pipeline.chalicelib.crash_verdict import dies_at, reference, repeated


@pytest.mark.fault("events-repeated-or-lost")
@pytest.mark.parametrize("case", CASES)
def test_a_crash_after_any_call_changes_nothing_about_the_end(case: str) -> None:
    expected = reference(case, in_memory)
    for number in range(len(expected.names)):
        dies_at(number, expected, in_memory, always_settle=True)


@pytest.mark.fault("events-repeated-or-lost")
@pytest.mark.parametrize("case", CASES)
def test_a_repeated_invocation_changes_nothing(case: str) -> None:
    repeated(reference(case, in_memory), in_memory)
