"""What became of each instance of a batch, from HealthImaging's result files. Pure functions.

The files' layout is documented, their details vary: Python's ``True`` beside JSON's ``true``, keys
that came later, warning types in two spellings. So they are read leniently, line by line.
https://docs.aws.amazon.com/healthimaging/latest/devguide/understanding-import-jobs.html
"""

import json
import re
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

from chalicelib.errors import ResultsNotReady
from chalicelib.imports.execution import bounded
from contract.manifest import Manifest
from contract.records import Counts

# The longest lines seen are below 1 KB; one with every warning there is stays below 8 KB.
MAX_LINE_BYTES = 65_536
MAX_WARNINGS = 20
NOT_REPORTED = "not reported by HealthImaging"

# The closing quote is optional, so that text without one is read once and not once per quote.
_PYTHON_WORD = re.compile(r'"(?:[^"\\]|\\.)*"?|\b(?:True|False|None)\b')
_AS_JSON = {"True": "true", "False": "false", "None": "null"}
_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_WARNING_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,63}", re.ASCII)
_OTHER = "OTHER"
# DynamoDB's numbers have 38 digits; no image set has a version of ten.
_MAX_VERSION = 10**9

# https://docs.aws.amazon.com/healthimaging/latest/devguide/reference-warning-codes.html
# The page's decimals of the last three are not its hexadecimals: either is understood, and 45570,
# which then means two things, means what its hexadecimal says.
_WARNING_CODES = {
    0xB000: "COERCION_OF_DATA_ELEMENTS",
    0xB006: "ELEMENTS_DISCARDED",
    0xB007: "SOP_CLASS_DATA_MISMATCH",
    0xB100: "TRANSCODING_EXCEPTION",
    0xB110: "FRAMES_EXTRACTION_FAILURE",
    0xB111: "FRAME_NUMBER_MISMATCH",
    0xB112: "INVALID_OFFSET_TABLE",
    0xB120: "UNSUPPORTED_TRANSFER_SYNTAX",
    0xB201: "INVALID_UID_FORMAT",
    0xB202: "INVALID_DICOM_VALUE_LENGTH",
    45571: "INVALID_DICOM_VALUE_LENGTH",
    0xBFFF: _OTHER,
    47513: _OTHER,
}


@dataclass(frozen=True, slots=True)
class ResultFiles:
    """The bodies of one job's result files; a file that does not exist is empty."""

    summary: bytes
    success: bytes = b""
    failure: bytes = b""
    warning: bytes = b""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One instance: imported if there is no ``reason``, failed otherwise.

    A ``duplicate`` is imported by another batch, and was left out of this one's job.
    """

    reason: str | None = None
    duplicate: bool = False
    image_set_id: str | None = None
    image_set_version: int | None = None
    is_primary: bool | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Results:
    """A job's outcomes by object key, one for each instance of the manifest."""

    outcomes: Mapping[str, Outcome]
    image_set_ids: tuple[str, ...]

    @property
    def counts(self) -> Counts:
        """How many fared how."""
        outcomes = self.outcomes.values()
        failed = sum(each.reason is not None for each in outcomes)
        return Counts(
            instances=len(outcomes),
            imported=len(outcomes) - failed,
            failed=failed,
            warned=sum(bool(each.warnings) for each in outcomes),
            duplicates=sum(each.duplicate for each in outcomes),
            non_primary=sum(each.is_primary is False for each in outcomes),
        )


def read_results(
    manifest: Manifest, files: ResultFiles, duplicates: Set[str] = frozenset()
) -> Results:
    """One outcome for each of the manifest's instances, whatever the files hold.

    ``duplicates`` are the keys that were left out of the job. Raises ResultsNotReady for a summary
    that is not there yet, or one that promises more than the other files hold so far.
    """
    image_sets = _image_sets(_summary(files))
    imported = dict(_imported(files.success))
    for key, warned in _imported(files.warning):
        # Whether a warned file is also listed as a success is not documented.
        known = imported.get(key, warned)
        imported[key] = replace(_completed(known, warned), warnings=warned.warnings)
    imported = {
        key: _completed(each, image_sets.get(each.image_set_id or "", each))
        for key, each in imported.items()
    }
    # A file named both as imported and as failed counts as failed: never report more than is sure.
    found = imported | dict(_failed(files.failure))
    # A job that began before a duplicate was moved away may name it: as failed, since it was gone.
    left_out = {
        key: Outcome(duplicate=True)
        for key in duplicates
        if key not in found or found[key].reason is not None
    }
    found |= left_out
    outcomes = {each.key: found.get(each.key, Outcome(NOT_REPORTED)) for each in manifest.instances}
    ids = (each.image_set_id for each in outcomes.values() if each.image_set_id is not None)
    return Results(outcomes, tuple(dict.fromkeys(ids)))


def _completed(outcome: Outcome, other: Outcome) -> Outcome:
    """``outcome``, with what only ``other`` tells."""
    version, primary = outcome.image_set_version, outcome.is_primary
    return replace(
        outcome,
        image_set_id=outcome.image_set_id or other.image_set_id,
        image_set_version=other.image_set_version if version is None else version,
        is_primary=other.is_primary if primary is None else primary,
    )


def _image_sets(summary: Mapping[str, Any]) -> dict[str, Outcome]:
    """What the summary says of each image set: a file's own line may leave it out."""
    rows = summary.get("imageSetsSummary")
    told = (_image_set(row) for row in (rows if isinstance(rows, list) else ()))
    by_version = sorted(told, key=lambda each: each.image_set_version or 0)
    return {each.image_set_id: each for each in by_version if each.image_set_id is not None}


def _image_set(members: object) -> Outcome:
    if not isinstance(members, dict):
        return Outcome()
    image_set_id, is_primary = members.get("imageSetId"), members.get("isPrimary")
    version = members.get("imageSetVersion")
    return Outcome(
        image_set_id=bounded(image_set_id) if _is_text(image_set_id) else None,
        image_set_version=version if type(version) is int and abs(version) < _MAX_VERSION else None,
        is_primary=is_primary if isinstance(is_primary, bool) else None,
    )


def _summary(files: ResultFiles) -> Mapping[str, Any]:
    document = _loads(files.summary)
    summary = document.get("jobSummary") if document else None
    if not isinstance(summary, dict):
        raise ResultsNotReady("job-output-manifest.json cannot be read (yet)")
    imported = _number(summary, "numberOfImportedFiles")
    failed = _number(summary, "numberOfFilesWithCustomerError")
    failed += _number(summary, "numberOfFilesWithServerError")
    if (imported and not (files.success or files.warning)) or (failed and not files.failure):
        raise ResultsNotReady("the result files that the summary speaks of are not there yet")
    return summary


def _number(summary: Mapping[str, Any], name: str) -> int:
    value = summary.get(name)
    return value if isinstance(value, int) else 0


def _imported(body: bytes) -> Iterator[tuple[str, Outcome]]:
    for key, line in _lines(body):
        response = line.get("importResponse")
        warnings = response.get("warnings") if isinstance(response, dict) else None
        yield key, replace(_image_set(response), warnings=_warnings(warnings))


def _failed(body: bytes) -> Iterator[tuple[str, Outcome]]:
    for key, line in _lines(body):
        exception = line.get("exception")
        members = exception if isinstance(exception, dict) else {}
        parts = [members.get("exceptionType"), members.get("message")]
        said = ": ".join(part for part in parts if _is_text(part))
        yield key, Outcome(bounded(said) or "HealthImaging gave no reason")


def _warnings(value: object) -> tuple[str, ...]:
    given = value if isinstance(value, list) else []
    names = (_warning(each) for each in given[:MAX_WARNINGS] if isinstance(each, dict))
    return tuple(dict.fromkeys(names))


def _warning(warning: Mapping[str, Any]) -> str:
    kind, code = warning.get("type"), warning.get("warning_reason_code")
    if _is_text(kind):
        name = _WORD_START.sub("_", kind).upper()
        return name if _WARNING_NAME.fullmatch(name) else _OTHER
    return _WARNING_CODES.get(code, _OTHER) if isinstance(code, int) else _OTHER


def _lines(body: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each readable line with the object key it speaks of; the others speak of none."""
    for line in body.split(b"\n"):
        document = _loads(line) if len(line) <= MAX_LINE_BYTES else None
        if document and _is_text(document.get("inputFile")):
            yield _key(document["inputFile"]), document


def _key(input_file: str) -> str:
    # The examples show keys; an s3:// URI would be as clear.
    if input_file.startswith("s3://"):
        return input_file.removeprefix("s3://").partition("/")[2]
    return input_file


def _loads(text: bytes) -> dict[str, Any] | None:
    """A JSON object, with Python's constants forgiven, or None."""
    try:
        lenient = _PYTHON_WORD.sub(lambda word: _AS_JSON.get(word[0], word[0]), text.decode())
        document = json.loads(lenient)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and value != ""
