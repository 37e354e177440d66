"""What became of each instance of a batch, from HealthImaging's result files. Pure functions.

A wrong "failed" makes people import a second copy. So an instance that no line names is called
failed only where the files hold all that their summary speaks of. The details of the files vary:
keys that came later, warning types in two spellings; ``result_lines`` reads them.
https://docs.aws.amazon.com/healthimaging/latest/devguide/understanding-import-jobs.html
"""

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from chalicelib.errors import ResultsNotReady, ResultsNotUnderstood
from chalicelib.imports.execution import bounded
from chalicelib.imports.result_lines import (
    BatchNames,
    ResultLines,
    is_text,
    read_lines,
    read_object,
    truth,
    unpacked,
    whole_number,
)
from contract.manifest import Manifest
from contract.records import Counts

MAX_WARNINGS = 20
NOT_REPORTED = "not reported by HealthImaging"
_NO_REASON = "HealthImaging gave no reason"

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


@dataclass(frozen=True, slots=True)
class _Reported:
    """A job's result files, read, and whether they are all there."""

    summary: Mapping[str, Any]
    success: ResultLines[Outcome]
    failure: ResultLines[str]
    warning: ResultLines[Outcome]

    def require_complete(self) -> None:
        """Raise ResultsNotReady if the summary promises more than the lines hold."""
        # Whether a warned file is also listed as a success, and is counted, is not documented: the
        # two files are counted together, each name once.
        imported = len(self.success.names | self.warning.names)
        imported += self.success.nameless + self.warning.nameless
        failed = ("numberOfFilesWithCustomerError", "numberOfFilesWithServerError")
        if self._lacks(imported, ("numberOfImportedFiles",), self.success, self.warning):
            raise ResultsNotReady("the summary counts more imported files than have a line yet")
        if self._lacks(self.failure.held, failed, self.failure):
            raise ResultsNotReady("the summary counts more failed files than have a line yet")

    def require_nothing_to_come(self) -> None:
        """Raise unless a file that has no line has none for good."""
        files = (self.success, self.failure, self.warning)
        named = len(self.success.names | self.failure.names | self.warning.names)
        named += sum(each.nameless for each in files)
        scanned = self._number("numberOfScannedFiles")
        if any(each.cut_off for each in files):
            raise ResultsNotReady("a result file ends within a line")
        if scanned is not None and scanned > named:
            raise ResultsNotReady("more files were scanned than the result files name so far")
        if scanned is None and self._number("numberOfImportedFiles") is None:
            raise ResultsNotReady("the summary does not say how many files there are")
        unknown = sum(each.nameless + len(each.strangers) for each in (self.success, self.warning))
        if unknown:  # they may be of the very instances that have no line
            raise ResultsNotUnderstood(f"{unknown} lines of imported files name nothing known")

    def _lacks(self, held: int, numbers: Sequence[str], *files: ResultLines[Any]) -> bool:
        promised = [each for each in map(self._number, numbers) if each is not None]
        return held < sum(promised) if promised else any(each.cut_off for each in files)

    def _number(self, name: str) -> int | None:
        return whole_number(self.summary.get(name))


def read_results(
    manifest: Manifest, files: ResultFiles, duplicates: Set[str] = frozenset()
) -> Results:
    """One outcome for each of the manifest's instances.

    ``duplicates`` are the keys that were left out of the job. Raises ResultsNotReady for a summary
    that is not there yet, or one that promises more than the other files hold so far,
    ResultsNotUnderstood for a file that names nothing of the batch, and ObjectTooLarge.
    """
    reported = _read(manifest, files)
    reported.require_complete()
    for each in (reported.success, reported.failure, reported.warning):
        each.require_understood()
    # A file named both as imported and as failed counts as failed: never report more than is sure.
    found = _imported(reported) | {
        key: Outcome(min(filter(None, reasons), default=_NO_REASON))
        for key, reasons in reported.failure.said.items()
    }
    # A job that began before a duplicate was moved away may name it: as failed, since it was gone.
    found |= {
        key: Outcome(duplicate=True)
        for key in duplicates
        if key not in found or found[key].reason is not None
    }
    if any(each.key not in found for each in manifest.instances):
        reported.require_nothing_to_come()
    outcomes = {each.key: found.get(each.key, Outcome(NOT_REPORTED)) for each in manifest.instances}
    ids = (each.image_set_id for each in outcomes.values() if each.image_set_id is not None)
    return Results(outcomes, tuple(dict.fromkeys(ids)))


def _read(manifest: Manifest, files: ResultFiles) -> _Reported:
    names = BatchNames.of(manifest)
    return _Reported(
        summary=_summary(files.summary),
        success=read_lines("success.ndjson", files.success, names, _success),
        failure=read_lines("failure.ndjson", files.failure, names, _reason),
        warning=read_lines("warning.ndjson", files.warning, names, _success),
    )


def _summary(body: bytes) -> Mapping[str, Any]:
    try:
        document = read_object(unpacked("job-output-manifest.json", body))
    except ResultsNotUnderstood:
        document = None
    summary = document.get("jobSummary") if document else None
    if not isinstance(summary, dict):
        raise ResultsNotReady("job-output-manifest.json cannot be read (yet)")
    return summary


def _imported(reported: _Reported) -> dict[str, Outcome]:
    """The files that have a line as a success or with a warning, by key."""
    image_sets = _image_sets(reported.summary)
    success, warning = reported.success.said, reported.warning.said
    own = {
        key: _of_one_file(success.get(key, ()), warning.get(key, ()))
        for key in success.keys() | warning.keys()
    }
    return {
        key: _completed(each, image_sets.get(each.image_set_id or "", each))
        for key, each in own.items()
    }


def _of_one_file(success: Sequence[Outcome], warning: Sequence[Outcome]) -> Outcome:
    """What one file's own lines say together, in whatever order they stand.

    The latest image set counts, and without versions that of the success line. A file that one of
    its lines calls not primary is not.
    """
    by_text = [*sorted(warning, key=_as_text), *sorted(success, key=_as_text)]
    lines = sorted(by_text, key=_version)
    latest = next((each.image_set_id for each in reversed(lines) if each.image_set_id), None)
    same = [each for each in lines if each.image_set_id in (None, latest)]
    primary = {each.is_primary for each in lines}
    warnings = dict.fromkeys(name for each in lines for name in each.warnings)
    return Outcome(
        image_set_id=latest,
        image_set_version=same[-1].image_set_version,
        is_primary=False if False in primary else True if True in primary else None,
        warnings=tuple(warnings)[:MAX_WARNINGS],
    )


def _as_text(outcome: Outcome) -> tuple[str, tuple[str, ...]]:
    return outcome.image_set_id or "", outcome.warnings


def _version(outcome: Outcome) -> int:
    return -1 if outcome.image_set_version is None else outcome.image_set_version


def _completed(outcome: Outcome, other: Outcome) -> Outcome:
    """``outcome``, with what only ``other`` tells, and the later version of the two."""
    return replace(
        outcome,
        image_set_version=max(outcome, other, key=_version).image_set_version,
        is_primary=other.is_primary if outcome.is_primary is None else outcome.is_primary,
    )


def _image_sets(summary: Mapping[str, Any]) -> dict[str, Outcome]:
    """What the summary says of each image set: a file's own line may leave it out."""
    rows = summary.get("imageSetsSummary")
    told = [_image_set(row) for row in (rows if isinstance(rows, list) else ())]
    image_sets: dict[str, Outcome] = {}
    # Oldest first; of two that say the same version, the one that is not primary comes last.
    for each in sorted(told, key=lambda row: (_version(row), row.is_primary is False)):
        if each.image_set_id is not None:
            older = image_sets.get(each.image_set_id, each)
            image_sets[each.image_set_id] = _completed(each, older)
    return image_sets


def _image_set(members: object) -> Outcome:
    if not isinstance(members, dict):
        return Outcome()
    image_set_id, version = members.get("imageSetId"), whole_number(members.get("imageSetVersion"))
    return Outcome(
        image_set_id=bounded(image_set_id) if is_text(image_set_id) else None,
        image_set_version=version if version is not None and version < _MAX_VERSION else None,
        is_primary=truth(members.get("isPrimary")),
    )


def _success(line: Mapping[str, Any]) -> Outcome:
    response = line.get("importResponse")
    warnings = response.get("warnings") if isinstance(response, dict) else None
    return replace(_image_set(response), warnings=_warnings(warnings))


def _reason(line: Mapping[str, Any]) -> str:
    exception = line.get("exception")
    members = exception if isinstance(exception, dict) else {}
    parts = [members.get("exceptionType"), members.get("message")]
    return bounded(": ".join(part for part in parts if is_text(part)))


def _warnings(value: object) -> tuple[str, ...]:
    given = value if isinstance(value, list) else []
    names = (_warning(each) for each in given[:MAX_WARNINGS] if isinstance(each, dict))
    return tuple(dict.fromkeys(names))


def _warning(warning: Mapping[str, Any]) -> str:
    kind, code = warning.get("type"), warning.get("warning_reason_code")
    if is_text(kind):
        name = _WORD_START.sub("_", kind).upper()
        return name if _WARNING_NAME.fullmatch(name) else _OTHER
    return _WARNING_CODES.get(code, _OTHER) if isinstance(code, int) else _OTHER
