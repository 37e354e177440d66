"""Result files that are written still, are compressed, name files in other ways, or say nothing."""

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
from chalicelib.errors import ObjectTooLarge, ResultsNotReady, ResultsNotUnderstood
from chalicelib.imports import result_lines
from chalicelib.imports.outcome import NOT_REPORTED, ResultFiles, Results, read_results
from chalicelib.imports.result_lines import BatchNames
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.chalicelib.builders import (
    BATCH,
    NEWER_BATCH,
    a_manifest,
    failed,
    lines,
    success,
    summary,
)

# Without the time, which would make each process name its tests otherwise.
compressed = partial(gzip.compress, mtime=0)

ONE, TWO = (each.key for each in a_manifest(2).instances)
LATE = f"instances/{BATCH}/1.2/1.2.3/1.2.3.99.dcm"
BOM = b"\xef\xbb\xbf"
GARBAGE = b"\x00 no JSON\n"

FORMS = [
    "{key}",
    "/{key}",
    "./{key}",
    ".//./{key}",
    "{bucket}/{key}",
    "/{bucket}/{key}",
    "s3://{bucket}/{key}",
    "S3://{bucket}//{key}",
    "https://{bucket}.s3.eu-west-1.amazonaws.com/{key}",
    "https://s3.amazonaws.com/{bucket}/{key}?versionId=3/4",
    "HTTPS://{bucket}.s3.amazonaws.com/{quoted}",
    "arn:aws:s3:::{bucket}/{key}",
    "arn:aws:s3:eu-west-1:123456789012:accesspoint/{bucket}/object/{key}",
    "{in_instances}",
    "./{in_instances}",
]
RELATIVE = ["{in_batch}", "/{in_batch}", "./{in_batch}"]
buckets = st.from_regex(r"[a-z0-9][a-z0-9.-]{1,20}[a-z0-9]", fullmatch=True) | st.sampled_from(
    ["instances", "batches", "1.2"]
)


def in_form(form: str, key: str, bucket: str = "dicom") -> str:
    _, batch_id, rest = key.split("/", 2)
    quoted = key.replace("/", "%2F")
    return form.format(
        key=key, bucket=bucket, quoted=quoted, in_instances=f"{batch_id}/{rest}", in_batch=rest
    )


def read(
    told: bytes, succeeded: bytes = b"", failure: bytes = b"", warning: bytes = b""
) -> Results:
    return read_results(a_manifest(2), ResultFiles(told, succeeded, failure, warning))


def reasons(results: Results) -> list[str | None]:
    return [each.reason for each in results.outcomes.values()]


def told(**numbers: object) -> bytes:
    return json.dumps({"jobSummary": numbers}).encode()


BOTH = lines(success(ONE), success(TWO))


# What the summary promises.


@pytest.mark.fault("odd-results")
@pytest.mark.parametrize(
    "files",
    [
        ResultFiles(summary(2), lines(success(ONE))),
        ResultFiles(summary(2), lines(success(ONE)), warning=lines(success(ONE))),
        ResultFiles(summary(2), lines(success(ONE), success(f"s3://dicom/{ONE}"))),
        ResultFiles(summary(2), BOTH[:-20]),
        ResultFiles(summary(2), BOM + lines(success(ONE)) + b"\n \r\n"),
        ResultFiles(summary(1, 1), lines(success(ONE))),
        ResultFiles(summary(0, 1, 1), failure=lines(failed(ONE))),
        ResultFiles(summary(0, 1, 1), failure=lines(failed(ONE), failed(TWO))[:-9]),
        ResultFiles(summary(2), compressed(BOTH)[:-9]),
        ResultFiles(summary(2), BOTH[:9]),
        ResultFiles(summary(1, 10**30), lines(success(ONE)), lines(failed(TWO))),
        ResultFiles(told(numberOfImportedFiles="2"), lines(success(ONE))),
        ResultFiles(told(numberOfImportedFiles=2.0), lines(success(ONE))),
    ],
)
def test_a_summary_that_promises_more_than_the_lines_hold_is_waited_for(files: ResultFiles) -> None:
    with pytest.raises(ResultsNotReady):
        read_results(a_manifest(2), files)


@pytest.mark.parametrize(
    ("document", "body"),
    [
        # Scanned files are those imported and those failed.
        (told(numberOfImportedFiles=1, numberOfScannedFiles=2), lines(success(ONE))),
        (told(numberOfImportedFiles=1, numberOfScannedFiles="2"), lines(success(ONE))),
        # These numbers say nothing.
        (told(), lines(success(ONE))),
        (told(numberOfImportedFiles=True), lines(success(ONE))),
        (told(numberOfImportedFiles=-1), lines(success(ONE))),
        (told(numberOfImportedFiles=1.5), lines(success(ONE))),
        (told(numberOfImportedFiles=float("nan")), lines(success(ONE))),
        (told(numberOfImportedFiles=float("inf")), lines(success(ONE))),
        (told(numberOfImportedFiles="9" * 5_000), lines(success(ONE))),
        (told(numberOfImportedFiles="one"), lines(success(ONE))),
        (told(numberOfImportedFiles=[2]), BOTH[:9]),
        # Whatever the numbers say, a file that ends within a line is not all there.
        (summary(1), BOTH[:-9]),
    ],
)
def test_an_instance_is_not_called_failed_where_its_line_could_come(
    document: bytes, body: bytes
) -> None:
    with pytest.raises(ResultsNotReady):
        read(document, body)


@pytest.mark.parametrize(
    "document",
    [
        summary(),
        summary(2),
        told(),
        told(numberOfImportedFiles=True),
        told(numberOfImportedFiles=2, numberOfScannedFiles=9),
        told(numberOfImportedFiles="2"),
        BOM + summary(2),
        compressed(BOM + summary(2)),
    ],
)
def test_instances_that_have_their_lines_need_no_numbers(document: bytes) -> None:
    assert reasons(read(document, BOTH)) == [None, None]
    assert reasons(read(document, BOTH.rstrip(b"\n"))) == [None, None]


@pytest.mark.parametrize(
    "document", [summary(1), told(numberOfScannedFiles=1), told(numberOfImportedFiles="1")]
)
def test_an_instance_without_a_line_is_not_reported_once_the_numbers_are_held(
    document: bytes,
) -> None:
    assert reasons(read(document, lines(success(ONE)))) == [None, NOT_REPORTED]


def test_a_line_of_a_failure_that_cannot_be_read_will_never_get_better() -> None:
    mixed = read(summary(0, 2), failure=lines(failed(ONE)) + GARBAGE)
    assert reasons(mixed)[1] == NOT_REPORTED


@pytest.mark.parametrize("odd", [GARBAGE, lines(success("somewhere/else.dcm"))])
@pytest.mark.parametrize("file", ["success", "warning"])
def test_an_imported_files_line_that_names_nothing_may_be_of_any_that_has_none(
    odd: bytes, file: str
) -> None:
    def read_with(*keys: str) -> list[str | None]:
        body = lines(*map(success, keys)) + odd
        return reasons(read(summary(2), *([body] if file == "success" else [b"", b"", body])))

    with pytest.raises(ResultsNotUnderstood):
        read_with(ONE)
    assert read_with(ONE, TWO) == [None, None]


# How a line names a file.


@given(st.sampled_from(FORMS + RELATIVE), st.sampled_from([ONE, TWO]), buckets)
def test_each_form_of_a_name_is_understood(form: str, key: str, bucket: str) -> None:
    assert BatchNames.of(a_manifest(2)).key(in_form(form, key, bucket)) == key


@pytest.mark.fault("odd-results")
@pytest.mark.parametrize("form", FORMS + RELATIVE)
def test_an_instance_named_in_any_form_has_what_its_line_says(form: str) -> None:
    results = read(summary(1, 1), lines(success(in_form(form, ONE))), lines(failed(TWO, form)))
    assert results.outcomes[ONE].image_set_id == "a" * 32
    failure = lines(failed(in_form(form, TWO), "it broke"))
    results = read(summary(1, 1), lines(success(ONE)), failure)
    assert results.outcomes[TWO].reason == "ValidationException: it broke"


def test_another_batchs_line_says_nothing_of_an_instance() -> None:
    other = TWO.replace(BATCH, NEWER_BATCH)
    with pytest.raises(ResultsNotUnderstood):
        read(summary(2), lines(success(ONE), success(f"s3://dicom/{other}")))


@given(st.sampled_from(FORMS), buckets)
def test_an_unlisted_object_under_the_prefix_is_understood(form: str, bucket: str) -> None:
    assert BatchNames.of(a_manifest(2)).key(in_form(form, LATE, bucket)) == LATE


@given(st.sampled_from(FORMS), buckets)
def test_another_batchs_object_is_never_one_of_this_batch(form: str, bucket: str) -> None:
    (other,) = (each.key for each in a_manifest(1, batch_id=NEWER_BATCH).instances)
    assert BatchNames.of(a_manifest(2)).key(in_form(form, other, bucket)) is None


@pytest.mark.parametrize(
    "name",
    [
        f"instances/{NEWER_BATCH}/{ONE}",
        f"{NEWER_BATCH}/{ONE}",
        f"my{ONE}",
        f"quarantine/unlisted/{ONE.removeprefix('instances/')}",
        f"duplicates/{ONE.removeprefix('instances/')}",
        f"{ONE.removeprefix(f'instances/{BATCH}/')}x",
        ONE.rpartition("/")[2],
        f"a/b/c/d/e/f/g/h/{ONE}",
        "https://[",
        "",
        "/",
        "%",
        "\ud800",
    ],
)
def test_other_names_are_strangers(name: str) -> None:
    assert BatchNames.of(a_manifest(2)).key(name) is None


@given(st.text() | st.text(alphabet="./%?:s3h" + BATCH[:3]))
def test_any_name_means_a_key_under_the_prefix_or_none(name: str) -> None:
    manifest = a_manifest(2)
    for each in (name, f"https://{name}", f"{manifest.prefix}{name}", f"{name}{ONE}"):
        key = BatchNames.of(manifest).key(each)
        assert key is None or key.startswith(manifest.prefix)


def in_two_members(body: bytes) -> bytes:
    return compressed(body[:20]) + compressed(body[20:])


@pytest.mark.parametrize("pack", [bytes, compressed, in_two_members])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("mark", [b"", BOM])
def test_a_files_encoding_does_not_matter(
    pack: Callable[[bytes], bytes], end: bytes, mark: bytes
) -> None:
    body = mark + BOTH.replace(b"\n", end)
    assert reasons(read(pack(mark + summary(2)), pack(body))) == [None, None]


def test_a_body_that_inflates_beyond_the_bound_is_too_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(result_lines, "MAX_RESULT_BYTES", len(BOTH) - 1)
    with pytest.raises(ObjectTooLarge):
        read(summary(2), compressed(BOTH))
    with pytest.raises(ObjectTooLarge):
        read(compressed(b" " * len(BOTH)), BOTH)


# Files that say nothing of the batch.


@pytest.mark.fault("odd-results")
@pytest.mark.parametrize("name", ["success", "failure", "warning"])
@pytest.mark.parametrize(
    ("body", "count"),
    [
        (lines(success("somewhere/else.dcm"), success("secret.dcm")), 2),
        (lines(success(ONE.replace(BATCH, NEWER_BATCH))), 1),
        (lines({"InputFile": ONE}), 1),
        (GARBAGE * 3, 3),
        (b"\n" + GARBAGE.strip(), 1),
    ],
)
def test_a_file_that_names_nothing_of_the_batch_fails_nothing(
    name: str, body: bytes, count: int
) -> None:
    files = replace(ResultFiles(summary(), BOTH), **{name: body})
    with pytest.raises(ResultsNotUnderstood) as told:
        read_results(a_manifest(2), files)
    assert str(told.value) == (
        f"no line of {name}.ndjson (of {count}) names an object of the batch"
    )


def test_a_damaged_body_is_not_understood() -> None:
    packed = bytearray(compressed(BOTH))
    packed[-8] ^= 1  # its checksum
    with pytest.raises(ResultsNotUnderstood, match=r"^success\.ndjson is compressed, and damaged$"):
        read(summary(2), bytes(packed))
    with pytest.raises(ResultsNotReady):
        read(bytes(packed), BOTH)


def test_a_file_that_names_only_a_late_object_is_understood() -> None:
    results = read(summary(1), lines(success(f"s3://dicom/{LATE}")))
    assert reasons(results) == [NOT_REPORTED] * 2


@pytest.mark.parametrize("blank", [b"", b"\n", b" \r\n\t\n", BOM, compressed(b"\n")])
def test_a_blank_file_is_fine(blank: bytes) -> None:
    assert reasons(read(summary(2), BOTH, blank, blank)) == [None, None]
