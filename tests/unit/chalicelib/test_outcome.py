import time
from collections.abc import Sequence
from itertools import permutations, product

import pytest
from chalicelib.errors import ResultsNotReady, ResultsNotUnderstood
from chalicelib.imports.outcome import (
    MAX_WARNINGS,
    NOT_REPORTED,
    Outcome,
    ResultFiles,
    read_results,
)
from chalicelib.imports.result_lines import MAX_LINE_BYTES
from chalicelib.imports.rows import ending, failures
from hypothesis import given
from hypothesis import strategies as st

from contract.batch_states import BatchEvent
from contract.records import Counts
from tests.unit.chalicelib.builders import a_manifest, failed, lines, success, summary

ONE, TWO = (each.key for each in a_manifest(2).instances)


def warned(key: str, *warnings: dict[str, object]) -> dict[str, object]:
    response = {"imageSetId": "b" * 32, "isPrimary": False, "warnings": list(warnings)}
    return {"inputFile": key, "importResponse": response}


def test_each_instance_gets_what_the_files_say_of_it() -> None:
    files = ResultFiles(summary(1, 1), lines(success(ONE)), lines(failed(TWO)))
    results = read_results(a_manifest(2), files)
    assert results.outcomes[ONE].image_set_id == "a" * 32
    assert results.outcomes[ONE].is_primary is True
    assert results.outcomes[TWO].reason == "ValidationException: DICOM attributes does not exist"
    assert results.counts == Counts(2, imported=1, failed=1)
    assert ending(results.counts) is BatchEvent.PARTLY_IMPORTED
    assert failures(results.counts) == "1 of 2 instances were not imported"
    assert results.image_set_ids == ("a" * 32,)


def test_an_instance_that_no_file_names_failed() -> None:
    results = read_results(a_manifest(2), ResultFiles(summary(1), lines(success(ONE))))
    assert results.outcomes[TWO].reason == NOT_REPORTED


def test_all_imported_and_none_imported_are_told_apart() -> None:
    both = read_results(a_manifest(2), ResultFiles(summary(2), lines(success(ONE), success(TWO))))
    assert (ending(both.counts), failures(both.counts)) == (BatchEvent.IMPORTED, None)
    none = read_results(a_manifest(2), ResultFiles(summary()))
    assert ending(none.counts) is BatchEvent.FAILED


def test_a_duplicate_counts_as_imported_unless_the_job_imported_it_again() -> None:
    files = ResultFiles(summary(1, 1), lines(success(ONE)), lines(failed(TWO)))
    results = read_results(a_manifest(3), files, {ONE, TWO})
    assert results.outcomes[ONE].image_set_id == "a" * 32
    assert results.outcomes[TWO] == Outcome(duplicate=True)
    assert results.counts == Counts(3, imported=2, failed=1, duplicates=1)


def test_the_summary_tells_of_an_image_set_what_a_files_line_leaves_out() -> None:
    sets = [
        {"imageSetId": "a" * 32, "imageSetVersion": 1, "isPrimary": False},
        {"imageSetId": "a" * 32, "imageSetVersion": 2, "isPrimary": False},
        {"imageSetId": "b" * 32, "imageSetVersion": "7", "isPrimary": 1},
        "no image set",
    ]
    document = {"jobSummary": {"numberOfImportedFiles": 2, "imageSetsSummary": sets}}
    success_file = lines(success(ONE, primary=None), success(TWO, "b" * 32, primary=None))
    results = read_results(a_manifest(2), ResultFiles(lines(document), success_file))
    one, two = results.outcomes[ONE], results.outcomes[TWO]
    assert (one.image_set_version, one.is_primary) == (2, False)
    assert (two.image_set_version, two.is_primary) == (7, None)
    assert results.counts.non_primary == 1


def test_an_instance_named_imported_and_failed_is_not_reported_imported() -> None:
    files = ResultFiles(summary(1, 1), lines(success(ONE)), lines(failed(ONE)))
    assert read_results(a_manifest(1), files).counts == Counts(1, failed=1)


@pytest.mark.parametrize("listed", [True, False])
def test_a_warned_instance_is_imported_whether_or_not_success_lists_it(listed: bool) -> None:
    warning = lines(warned(ONE, {"type": "InvalidOffsetTable", "warning_reason_code": 45330}))
    files = ResultFiles(summary(1), lines(success(ONE)) if listed else b"", b"", warning)
    results = read_results(a_manifest(1), files)
    outcome = results.outcomes[ONE]
    assert outcome.warnings == ("INVALID_OFFSET_TABLE",)
    assert outcome.image_set_id == ("a" if listed else "b") * 32
    assert outcome.is_primary is False
    assert results.counts == Counts(1, imported=1, warned=1, non_primary=1)


def in_set(image_set: object, version: object = None, primary: object = None) -> dict[str, object]:
    response = {"imageSetId": image_set, "imageSetVersion": version, "isPrimary": primary}
    return {"inputFile": ONE, "importResponse": response}


def outcome_of(*own: object, warning: object = None, sets: Sequence[object] = ()) -> Outcome:
    """What is said of one instance whose lines and image sets these are."""
    document = {"jobSummary": {"numberOfImportedFiles": 1, "imageSetsSummary": list(sets)}}
    warnings = lines(warning) if warning else b""
    files = ResultFiles(lines(document), lines(*own), warning=warnings)
    return read_results(a_manifest(1), files).outcomes[ONE]


NO, YES = {"isPrimary": False}, {"isPrimary": True}


@pytest.mark.parametrize(
    ("own", "warning", "sets"),
    [
        ([in_set("a", 1, True)], in_set("a", 1, False), []),
        ([in_set("a", 1, False)], in_set("a", 1, True), []),
        ([in_set("a", 1, False)], None, [{"imageSetId": "a", "imageSetVersion": 2, **YES}]),
        ([in_set("a", 1, "False")], in_set("a", 1, True), []),
        ([in_set("a", 1, False), in_set("a", 2, True)], None, []),
        ([in_set("a", 2, True), in_set("b", 1, "FALSE")], None, []),
        ([in_set("a")], None, [{"imageSetId": "a", **NO}, {"imageSetId": "a", **YES}]),
    ],
)
def test_an_instance_that_one_of_its_lines_calls_not_primary_is_not(
    own: Sequence[object], warning: object, sets: Sequence[object]
) -> None:
    assert outcome_of(*own, warning=warning, sets=sets).is_primary is False


@pytest.mark.parametrize(
    ("text", "primary"),
    [("true", True), (" TRUE", True), ("False", False), ("no", None), (0, None)],
)
def test_primary_may_be_a_word(text: object, primary: bool | None) -> None:
    assert outcome_of(in_set("a", 1, text)).is_primary is primary


@pytest.mark.parametrize(
    ("own", "version"),
    [
        ([in_set("a", "9"), in_set("a", "10")], 10),
        ([in_set("a", 10), in_set("a", "9")], 10),
        ([in_set("a", 3), in_set("a")], 3),
        ([in_set("a"), in_set(None, 4)], 4),
        ([in_set("a", 5.0)], 5),
        ([in_set("a", True)], None),
        ([in_set("a", "V2")], None),
        ([in_set("a", -1)], None),
        ([in_set("a", 10**20)], None),
    ],
)
def test_of_an_image_sets_versions_the_latest_counts(
    own: Sequence[object], version: int | None
) -> None:
    for order in permutations(own):
        outcome = outcome_of(*order)
        assert (outcome.image_set_id, outcome.image_set_version) == ("a", version)


@pytest.mark.parametrize(
    ("own", "told", "latest"), [(2, [1], 2), (1, ["2"], 2), (2, [10, "9"], 10)]
)
def test_the_summarys_version_counts_if_it_is_later(
    own: int, told: Sequence[object], latest: int
) -> None:
    for order in permutations(told):
        sets = [{"imageSetId": "a", "imageSetVersion": each} for each in order]
        assert outcome_of(in_set("a", own), sets=sets).image_set_version == latest


def test_an_instance_named_in_two_image_sets_is_in_the_later_one_in_any_order() -> None:
    own = in_set("a", "10"), in_set("b", 9), in_set(["c"], 1), in_set("z")
    for order in permutations(own):
        outcome = outcome_of(*order)
        assert (outcome.image_set_id, outcome.image_set_version) == ("a", 10)


def test_of_several_reasons_the_same_counts_in_any_order() -> None:
    told = failed(ONE, "a"), failed(ONE, "b"), {"inputFile": ONE}
    for order in permutations(told):
        files = ResultFiles(summary(0, 1), failure=lines(*order))
        reason = read_results(a_manifest(1), files).outcomes[ONE].reason
        assert reason == "ValidationException: a"


@pytest.mark.parametrize(
    ("warning", "name"),
    [
        ({"type": "InvalidOffsetTable"}, "INVALID_OFFSET_TABLE"),
        ({"type": "SOP_CLASS_DATA_MISMATCH"}, "SOP_CLASS_DATA_MISMATCH"),
        ({"type": "<script>"}, "OTHER"),
        ({"warning_reason_code": 0xB120}, "UNSUPPORTED_TRANSFER_SYNTAX"),
        ({"warning_reason_code": 45571}, "INVALID_DICOM_VALUE_LENGTH"),
        ({"warning_reason_code": 0xB202}, "INVALID_DICOM_VALUE_LENGTH"),
        ({"warning_reason_code": 47513}, "OTHER"),
        ({"warning_reason_code": 1}, "OTHER"),
        ({"warning_reason_code": "x"}, "OTHER"),
        ({}, "OTHER"),
    ],
)
def test_a_warning_is_known_by_either_spelling_or_code(
    warning: dict[str, object], name: str
) -> None:
    files = ResultFiles(summary(1), warning=lines(warned(ONE, warning)))
    assert read_results(a_manifest(1), files).outcomes[ONE].warnings == (name,)


def test_only_so_many_warnings_are_kept() -> None:
    many: list[dict[str, object]] = [{"type": f"TYPE_{number}"} for number in range(100)]
    files = ResultFiles(summary(1), warning=lines(warned(ONE, *many)))
    assert len(read_results(a_manifest(1), files).outcomes[ONE].warnings) == MAX_WARNINGS


def test_pythons_constants_are_understood_and_left_alone_inside_texts() -> None:
    python = f'{{"inputFile":"{ONE}","importResponse":{{"imageSetId":"a","isPrimary":True}}}}\n'
    files = ResultFiles(summary(1, 1), python.encode(), lines(failed(TWO, "is True, not None")))
    results = read_results(a_manifest(2), files)
    assert results.outcomes[ONE].is_primary is True
    assert results.outcomes[TWO].reason == "ValidationException: is True, not None"


def test_an_s3_uri_names_the_same_object_as_its_key() -> None:
    files = ResultFiles(summary(1), lines(success(f"s3://dicom/{ONE}")))
    assert read_results(a_manifest(1), files).counts.imported == 1


def test_what_a_line_leaves_out_is_not_known() -> None:
    bare = [{"inputFile": ONE}, {"inputFile": TWO, "importResponse": "?"}]
    results = read_results(a_manifest(2), ResultFiles(summary(2), lines(*bare)))
    assert {(each.image_set_id, each.is_primary) for each in results.outcomes.values()} == {
        (None, None)
    }
    files = ResultFiles(summary(0, 1), failure=lines({"inputFile": ONE}))
    reason = read_results(a_manifest(1), files).outcomes[ONE].reason
    assert reason == "HealthImaging gave no reason"


def test_a_long_reason_is_cut_and_made_printable() -> None:
    files = ResultFiles(summary(0, 1), failure=lines(failed(ONE, "\x1b[31m" + "x" * 9_999)))
    reason = read_results(a_manifest(1), files).outcomes[ONE].reason or ""
    assert len(reason) == 500
    assert reason.isprintable()


def test_a_line_beyond_the_bound_speaks_of_nothing() -> None:
    long = success(ONE) | {"padding": "x" * MAX_LINE_BYTES}
    body = lines(long, success(TWO))
    with pytest.raises(ResultsNotUnderstood):
        read_results(a_manifest(2), ResultFiles(summary(2), body))
    results = read_results(a_manifest(2), ResultFiles(summary(2), body + lines(success(ONE))))
    assert [each.reason for each in results.outcomes.values()] == [None, None]


def test_a_hostile_line_takes_no_time() -> None:
    started = time.process_time()
    with pytest.raises(ResultsNotReady):
        read_results(a_manifest(1), ResultFiles(summary(1), b'"\\' * (MAX_LINE_BYTES // 2)))
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    "files",
    [
        ResultFiles(b""),
        ResultFiles(b"[]"),
        ResultFiles(b'{"jobSummary": 1}'),
        ResultFiles(summary(imported=1)),
        ResultFiles(summary(customer_errors=1)),
        ResultFiles(summary(server_errors=1)),
    ],
)
def test_a_summary_that_promises_more_than_is_there_is_waited_for(files: ResultFiles) -> None:
    with pytest.raises(ResultsNotReady):
        read_results(a_manifest(1), files)


fragments = st.sampled_from(
    [b"{", b"}", b"[", b'"', b"\\", b"\n", b":", b",", b"True", b"1e999", b"\xff", b"\x00"]
) | st.sampled_from([ONE.encode(), b'"inputFile"', b'"importResponse"', b'"exception"'])
texts = st.lists(fragments, max_size=40).map(b"".join) | st.binary(max_size=200)


@given(texts, texts, texts, texts)
def test_any_bytes_give_an_outcome_for_each_instance_or_are_waited_for(
    manifest: bytes, success_file: bytes, failure: bytes, warning: bytes
) -> None:
    for summary_file in (manifest, summary()):
        try:
            files = ResultFiles(summary_file, success_file, failure, warning)
            results = read_results(a_manifest(2), files)
        except (ResultsNotReady, ResultsNotUnderstood):
            continue
        assert set(results.outcomes) == {ONE, TWO}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)


@given(json_values, json_values, json_values)
def test_members_of_any_type_are_survived(
    response: object, exception: object, more: object
) -> None:
    for wrapped, name in product((response, {"warnings": more, "imageSetId": more}), (ONE, more)):
        line = {"inputFile": name, "importResponse": wrapped, "exception": exception}
        body = lines(line, {"inputFile": ONE})
        files = ResultFiles(summary(), body, body, body)
        assert set(read_results(a_manifest(1), files).outcomes) == {ONE}
