"""Every number that stands in for something no public page tells: one table, printed and told.

What AWS does publish (rates, quotas) is the emulator's, ``local/healthimaging/quotas.py``; what the
product decides is the product's own code.
"""

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Assumption:
    """One number and where it comes from."""

    name: str
    value: str
    source: str


@dataclass(frozen=True, slots=True)
class ImportDuration:
    """How long HealthImaging takes for a job, from its start to its end."""

    seconds_per_job: float = 90.0
    seconds_per_file: float = 0.01

    def seconds(self, files: int) -> float:
        """For a job of so many files."""
        return self.seconds_per_job + files * self.seconds_per_file


@dataclass(frozen=True, slots=True)
class Timing:
    """How long everything else takes, in seconds. CPU is that of a whole Lambda vCPU."""

    s3_event: float = 1.0
    import_event: float = 1.0
    lambda_warm: float = 0.02
    lambda_cold: float = 1.5
    lambda_idle: float = 600.0
    handler: float = 0.3
    call: float = 0.01
    cpu_per_instance: float = 0.00013
    cpu_per_put: float = 0.0012
    cpu_per_record: float = 0.000075


_SOURCES = {
    "seconds_per_job": (
        "HealthImaging: seconds for a job",
        "AWS's only example lasted 95 s (devguide, list-dicom-import-jobs)",
    ),
    "seconds_per_file": ("HealthImaging: and for each of its files", "assumed; no page tells"),
    "s3_event": ("S3 event to Lambda, by SQS", "assumed; AWS says seconds, rarely a minute"),
    "import_event": ("HealthImaging's event to Lambda", "assumed; all are delivered"),
    "lambda_warm": ("Lambda: invocation, warm", "assumed"),
    "lambda_cold": ("Lambda: cold start", "assumed"),
    "lambda_idle": ("Lambda: an idle environment lives", "assumed"),
    "handler": ("Lambda: a handler, besides its instances", "assumed"),
    "call": ("One call to DynamoDB or Step Functions", "assumed"),
    "cpu_per_instance": (
        "Lambda CPU for an instance: manifest, results, reading its row",
        "measured: 120 us before a start, 130 us behind a job's end",
    ),
    "cpu_per_put": (
        "Lambda CPU to write an instance's row, on a condition and so one by one",
        "measured: 1.2 ms",
    ),
    "cpu_per_record": (
        "Lambda CPU to read a batch's record from the index",
        "measured: 74 us",
    ),
}


def assumptions(duration: ImportDuration, timing: Timing) -> list[Assumption]:
    """The table."""
    return [
        Assumption(
            _SOURCES[field.name][0], f"{getattr(each, field.name):g} s", _SOURCES[field.name][1]
        )
        for each in (duration, timing)
        for field in fields(each)
    ]
