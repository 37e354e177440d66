"""What holds for any result files: the reader's promises as properties."""

import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import pytest
from chalicelib.errors import ObjectTooLarge, ResultsNotReady, ResultsNotUnderstood
from chalicelib.imports.outcome import ResultFiles, Results, read_results
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.chalicelib.builders import a_manifest, failed, lines, success

# Without the time, which would make each process name its tests otherwise.
compressed = partial(gzip.compress, mtime=0)

MANIFEST = a_manifest(5)
KEYS = [each.key for each in MANIFEST.instances]
LATE = f"{MANIFEST.prefix}1.2/1.2.3/1.2.3.99.dcm"
FATES = ["success", "warning", "both", "failure", "silent"]
FORMS: list[Callable[[str], str]] = [
    str,
    lambda key: f"s3://dicom/{key}",
    lambda key: f"dicom/{key}",
    lambda key: f"./{key}",
    lambda key: f"https://dicom.s3.amazonaws.com/{key}",
    lambda key: key.removeprefix("instances/"),
]


@dataclass(frozen=True, slots=True)
class Job:
    """What HealthImaging has to say of a job: its summary, and each file's lines."""

    summary: dict[str, object]
    success: Sequence[dict[str, object]]
    failure: Sequence[dict[str, object]]
    warning: Sequence[dict[str, object]]

    def files(self, encode: Callable[[bytes], bytes] = bytes) -> ResultFiles:
        bodies = [lines(*each) for each in (self.success, self.failure, self.warning)]
        packed = [encode(each) if each else each for each in bodies]
        return ResultFiles(json.dumps({"jobSummary": self.summary}).encode(), *packed)


def imported_line(key: str, image_set: str, version: object, primary: object) -> dict[str, object]:
    response = {"imageSetId": image_set, "imageSetVersion": version, "isPrimary": primary}
    return {"inputFile": key, "importResponse": {**response, "warnings": [{"type": image_set}]}}


@st.composite
def jobs(draw: st.DrawFn) -> Job:
    """Complete and true: the numbers are those of the files. Some files are named twice."""
    fates = {key: draw(st.sampled_from(FATES)) for key in KEYS}
    if draw(st.booleans()):
        fates[LATE] = draw(st.sampled_from(FATES[:-1]))
    own: dict[str, list[dict[str, object]]] = {"success": [], "failure": [], "warning": []}
    for key, fate in fates.items():
        for name in {"both": ["success", "warning"], "silent": []}.get(fate, [fate]):
            for _ in range(draw(st.integers(1, 2)) if name != "failure" else 1):
                named = draw(st.sampled_from(FORMS))(key)
                line = imported_line(
                    named,
                    draw(st.sampled_from("AB")),
                    draw(st.sampled_from([None, 9, "10"])),
                    draw(st.sampled_from([None, True, False, "False"])),
                )
                own[name].append(failed(named) if name == "failure" else line)
    # Whether a warned file counts as imported is not documented; if not, the scanned files tell.
    counted = draw(st.sampled_from([["success", "both"], ["success", "both", "warning"]]))
    numbers: dict[str, object] = {
        "numberOfImportedFiles": sum(fate in counted for fate in fates.values()),
        "numberOfFilesWithCustomerError": len(own["failure"]),
    }
    if "warning" not in counted or draw(st.booleans()):
        numbers["numberOfScannedFiles"] = sum(fate != "silent" for fate in fates.values())
    return Job(numbers, own["success"], own["failure"], own["warning"])


def read_or_wait(files: ResultFiles) -> Results | None:
    try:
        return read_results(MANIFEST, files)
    except (ResultsNotReady, ResultsNotUnderstood, ObjectTooLarge):
        return None


def never_failed_wrongly(whole: Results, part: Results | None) -> None:
    """``part`` is what was read of less than the ``whole``, or that it was not to be read."""
    if part is not None:
        imported = {key for key, each in whole.outcomes.items() if each.reason is None}
        assert imported <= {key for key, each in part.outcomes.items() if each.reason is None}


@pytest.mark.fault("odd-results")
@given(jobs(), st.sampled_from([bytes, compressed]), st.data())
def test_files_that_are_not_all_there_never_make_an_imported_instance_a_failed_one(
    job: Job, encode: Callable[[bytes], bytes], data: st.DataObject
) -> None:
    files = job.files(encode)
    whole = read_results(MANIFEST, files)
    parts = {
        name: body[: data.draw(st.integers(0, len(body)) | st.just(len(body)), name)]
        for name in ("success", "failure", "warning")
        if (body := getattr(files, name))
    }
    never_failed_wrongly(whole, read_or_wait(replace(files, **parts)))


@given(jobs(), st.data())
def test_lines_that_are_missing_never_make_an_imported_instance_a_failed_one(
    job: Job, data: st.DataObject
) -> None:
    def some(told: Sequence[dict[str, object]]) -> list[dict[str, object]]:
        return [line for line in told if data.draw(st.booleans())]

    part = replace(
        job, success=some(job.success), failure=some(job.failure), warning=some(job.warning)
    )
    never_failed_wrongly(read_results(MANIFEST, job.files()), read_or_wait(part.files()))


@given(jobs(), st.data())
def test_the_order_of_the_lines_changes_nothing(job: Job, data: st.DataObject) -> None:
    shuffled = replace(
        job,
        success=data.draw(st.permutations(job.success)),
        failure=data.draw(st.permutations(job.failure)),
        warning=data.draw(st.permutations(job.warning)),
    )
    assert read_results(MANIFEST, shuffled.files()) == read_results(MANIFEST, job.files())


@given(jobs())
def test_an_instance_that_any_own_line_calls_not_primary_is_not(job: Job) -> None:
    outcomes = read_results(MANIFEST, job.files()).outcomes
    for line in [*job.success, *job.warning]:
        response = line["importResponse"]
        assert isinstance(response, dict)
        for key in KEYS:
            if str(line["inputFile"]).endswith(key.removeprefix("instances/")):
                assert response["isPrimary"] not in (False, "False") or not outcomes[key].is_primary


numbers = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
names = st.sampled_from([*KEYS, LATE, "elsewhere"]) | st.text(max_size=9)
any_lines = st.lists(
    names.map(success) | names.map(failed) | names.map(lambda name: {"inputFile": name})
).map(lambda documents: lines(*documents))
cut_lines = st.tuples(any_lines, st.integers(-30, -1)).map(lambda each: each[0][: each[1]])
bodies = st.binary(max_size=60) | any_lines | cut_lines
encoded = bodies | bodies.map(compressed) | cut_lines.map(lambda body: compressed(body)[:-4])
summaries = encoded | st.fixed_dictionaries(
    {},
    optional={
        "numberOfScannedFiles": numbers,
        "numberOfImportedFiles": numbers,
        "numberOfFilesWithCustomerError": numbers,
        "numberOfFilesWithServerError": numbers,
    },
).map(lambda members: json.dumps({"jobSummary": members}).encode())


@given(summaries, encoded, encoded, encoded)
def test_any_files_give_an_outcome_for_each_instance_or_one_of_our_errors(
    summary: bytes, succeeded: bytes, failure: bytes, warning: bytes
) -> None:
    results = read_or_wait(ResultFiles(summary, succeeded, failure, warning))
    if results is not None:
        assert list(results.outcomes) == KEYS
