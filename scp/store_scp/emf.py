"""The board in CloudWatch's embedded metric format: a log line that becomes metrics.

Pure. Counters are told as what they grew by, since CloudWatch adds up; gauges as they stand.
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from store_scp.metrics import UPLOAD_BOUNDS, Counter, Gauge, PanelReading, WorkerState, totals

# A bucket's middle stands for all in it; what is above the last bound, for that bound.
_UPLOAD_VALUES = (
    *((low + high) / 2 for low, high in zip((0.0, *UPLOAD_BOUNDS), UPLOAD_BOUNDS, strict=False)),
    UPLOAD_BOUNDS[-1],
)
_DAY = 86_400
_Measurement = tuple[str, str, Any]


def emf_document(
    before: Sequence[PanelReading],
    now: Sequence[PanelReading],
    namespace: str,
    timestamp_ms: int,
    dimensions: Mapping[str, str],
    certificate_seconds: float | None = None,
) -> dict[str, Any]:
    """What happened between two readings of the board, and how it stands."""
    measured = [*_growth(before, now), *_state(now), *_uploads(before, now)]
    if certificate_seconds is not None:  # CloudWatch has no days among its units
        measured.append(("CertificateDaysLeft", "None", round(certificate_seconds / _DAY, 2)))
    directive = {
        "Namespace": namespace,
        "Dimensions": [list(dimensions)],
        "Metrics": [{"Name": name, "Unit": unit} for name, unit, _ in measured],
    }
    return {
        "_aws": {"Timestamp": timestamp_ms, "CloudWatchMetrics": [directive]},
        **dimensions,
        **{name: value for name, _, value in measured},
    }


def _growth(before: Sequence[PanelReading], now: Sequence[PanelReading]) -> Iterator[_Measurement]:
    old = totals(reading.counters for reading in before)
    new = totals(reading.counters for reading in now)
    for each in Counter:
        yield _name(each), _unit(each), _number(new[each] - old[each])


def _state(now: Sequence[PanelReading]) -> Iterator[_Measurement]:
    values = totals(reading.gauges for reading in now)
    for each in Gauge:
        yield _name(each), _unit(each), _number(values[each])
    yield "WorkersReady", "Count", sum(each.state is WorkerState.READY for each in now)
    offsets = [abs(each.clock_offset) for each in now if each.clock_offset is not None]
    if offsets:  # without its sign: an alarm has one threshold
        yield "ClockOffsetSeconds", "Seconds", round(max(offsets), 3)


def _uploads(before: Sequence[PanelReading], now: Sequence[PanelReading]) -> Iterator[_Measurement]:
    """A distribution, or nothing where there was no upload: CloudWatch has no empty ones."""
    old = totals(reading.uploads for reading in before)
    new = totals(reading.uploads for reading in now)
    grown = [
        (value, after - ahead)
        for value, ahead, after in zip(_UPLOAD_VALUES, old, new, strict=True)
        if after > ahead
    ]
    if not grown:
        return
    values, counts = zip(*grown, strict=True)
    seconds = sum(each.upload_seconds for each in now) - sum(e.upload_seconds for e in before)
    yield (
        "UploadSeconds",
        "Seconds",
        {
            "Values": list(values),
            "Counts": [int(count) for count in counts],
            "Min": values[0],
            "Max": values[-1],
            "Count": int(sum(counts)),
            "Sum": round(seconds, 6),
        },
    )


def _name(measured: Counter | Gauge) -> str:
    """``ASSOCIATIONS_ACCEPTED`` in CloudWatch's way of writing."""
    return measured.name.title().replace("_", "")


def _unit(measured: Counter | Gauge) -> str:
    return "Bytes" if measured.name.startswith("BYTES") else "Count"


def _number(value: float) -> float:
    """Without ``.0``, to keep the line below what a pipe takes in one piece (4,096 bytes)."""
    return int(value) if value.is_integer() else value
