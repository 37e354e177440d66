"""What is measured: one table of counters and gauges, and their Prometheus form.

Pure: readings in, metric families out. The numbers live in the shared board (``board.py``), where
a counter's or gauge's number is its place. No label ever holds what a peer sent.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate, groupby
from typing import Self

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

_PREFIX = "store_scp_"


@dataclass(frozen=True, slots=True)
class Family:
    """A metric's name without prefix and ``_total``, its help, and the name of its only label."""

    name: str
    text: str
    label: str | None = None


_ASSOCIATIONS = Family("associations", "Associations by how they began or ended", "outcome")
_CONNECTIONS = Family("connections", "Connections by their kind", "kind")
_INSTANCES = Family("instances", "C-STORE requests by how they were answered", "result")
_UPLOADS = Family("uploads", "Attempts at a write to the sink, and how they ended", "result")
_RESTARTS = Family("worker_restarts", "Workers started after the one before had died", "worker")


class _Measured(IntEnum):
    """A number, counted from 0, with the family it belongs to and the value of its label."""

    family: Family
    label: str

    def __new__(cls, family: Family, label: str = "") -> Self:
        place = len(cls.__members__)
        member = int.__new__(cls, place)
        member._value_ = place
        member.family = family
        member.label = label
        return member


class Counter(_Measured):
    """What only ever grows."""

    ASSOCIATIONS_ACCEPTED = _ASSOCIATIONS, "accepted"
    ASSOCIATIONS_REJECTED_PERMANENT = _ASSOCIATIONS, "rejected_permanent"
    ASSOCIATIONS_REJECTED_TRANSIENT = _ASSOCIATIONS, "rejected_transient"
    ASSOCIATIONS_RELEASED = _ASSOCIATIONS, "released"
    ASSOCIATIONS_ABORTED = _ASSOCIATIONS, "aborted"
    # A protocol error, or a timeout.
    ASSOCIATIONS_FAILED = _ASSOCIATIONS, "failed"
    CONNECTIONS_PLAIN = _CONNECTIONS, "plain"
    CONNECTIONS_TLS = _CONNECTIONS, "tls"
    # What came first was no A-ASSOCIATE-RQ.
    CONNECTIONS_REFUSED = _CONNECTIONS, "refused"
    # It was no PROXY header, on a port that wants one.
    CONNECTIONS_REFUSED_PROXY = _CONNECTIONS, "refused_proxy"
    CONNECTIONS_TLS_HANDSHAKE_FAILED = _CONNECTIONS, "tls_handshake_failed"
    # Closed at once, since the process has hardly any file descriptor left.
    CONNECTIONS_REFUSED_DESCRIPTORS = _CONNECTIONS, "refused_descriptors"
    # Closed before any PDU: a load balancer's health check.
    CONNECTIONS_PROBE = _CONNECTIONS, "probe"
    INSTANCES_STORED = _INSTANCES, "stored"
    INSTANCES_DUPLICATE = _INSTANCES, "duplicate"
    INSTANCES_REFUSED_A700 = _INSTANCES, "refused_a700"
    INSTANCES_REFUSED_0110 = _INSTANCES, "refused_0110"
    INSTANCES_REFUSED_A900 = _INSTANCES, "refused_a900"
    INSTANCES_REFUSED_0117 = _INSTANCES, "refused_0117"
    INSTANCES_REFUSED_0122 = _INSTANCES, "refused_0122"
    INSTANCES_REFUSED_CXXX = _INSTANCES, "refused_cxxx"
    BYTES_RECEIVED = Family("received_bytes", "Bytes of data sets received")
    BYTES_STORED = Family("stored_bytes", "Bytes of instances made durable")
    UPLOADS_OK = _UPLOADS, "ok"
    # Attempts after one that failed; S3 only, a directory has none.
    UPLOADS_RETRIED = _UPLOADS, "retried"
    UPLOADS_FAILED = _UPLOADS, "failed"
    ECHOES = Family("echoes", "C-ECHO requests answered")
    WORKER_RESTARTS = _RESTARTS
    BATCHES_CLOSED = Family("batches_closed", "Batches closed, whose manifest is to be written")
    MANIFESTS_WRITTEN = Family("manifests_written", "Batch manifests made durable")


class Gauge(_Measured):
    """What is there now."""

    ASSOCIATIONS_ESTABLISHED = Family("established_associations", "Established associations")
    CONNECTIONS_OPEN = Family("open_connections", "Open connections")
    BYTES_IN_FLIGHT = Family("in_flight_bytes", "Bytes received and not durable yet")
    UPLOADS_IN_FLIGHT = Family("in_flight_uploads", "Writes to the sink under way")
    BATCHES_OPEN = Family("open_batches", "Batches without a durable manifest")
    OPERATIONS_WAITING = Family("waiting_operations", "DIMSE requests not answered yet")


class WorkerState(IntEnum):
    """What a worker says of itself with each heartbeat."""

    STARTING = 0
    READY = 1
    CONGESTED = 2
    DRAINING = 3
    # Since its start, no answer of S3 or DynamoDB has told the time.
    CLOCK_UNKNOWN = 4
    # The directory takes no files: its disk is gone, full or read-only.
    STORAGE_UNAVAILABLE = 5


# Upper bounds in seconds. A PUT of half a megabyte takes S3 20 to 100 ms, a disk less than 5 ms;
# DIMSE_TIMEOUT ends what takes 60 s. Above the last bound there is one more bucket.
UPLOAD_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass(frozen=True, slots=True)
class PanelReading:
    """One worker's numbers at one moment; ``uploads`` counts by bucket, not cumulated."""

    worker: int
    state: WorkerState
    # Monotonic, and so comparable between the processes of one machine only.
    beat_at: float
    counters: tuple[float, ...]
    gauges: tuple[float, ...]
    uploads: tuple[float, ...]
    upload_seconds: float
    # Seconds that the system's clock is ahead of AWS's; None: not measured.
    clock_offset: float | None = None


def totals(rows: Iterable[tuple[float, ...]]) -> tuple[float, ...]:
    """The sums over all workers, place by place."""
    return tuple(sum(column) for column in zip(*rows, strict=True))


def families(
    readings: Sequence[PanelReading], now: float, certificate_seconds: float | None = None
) -> Iterator[Metric]:
    """Everything as Prometheus has it: sums over the workers, save where each one matters.

    ``certificate_seconds``: until the first certificate expires; None: there is none.
    """
    summed = [each for each in Counter if each is not Counter.WORKER_RESTARTS]
    counters = totals(reading.counters for reading in readings)
    yield from _grouped(CounterMetricFamily, summed, counters)
    yield from _grouped(GaugeMetricFamily, Gauge, totals(reading.gauges for reading in readings))
    yield _uploads(readings)
    yield from _workers(readings, now)
    certificate = GaugeMetricFamily(
        _PREFIX + "certificate_expires_seconds",
        "Until the first of the receiver's certificate and its client CA's expires; below 0: since",
    )
    if certificate_seconds is not None:
        certificate.add_metric([], certificate_seconds)
    yield certificate


def _grouped(
    kind: type[CounterMetricFamily] | type[GaugeMetricFamily],
    members: Iterable[Counter | Gauge],
    values: Sequence[float],
) -> Iterator[Metric]:
    for family, group in groupby(members, key=lambda each: each.family):
        labels = [family.label] if family.label else []
        metric = kind(_PREFIX + family.name, family.text, labels=labels)
        for each in group:
            metric.add_metric([each.label] if family.label else [], values[each])
        yield metric


def _uploads(readings: Iterable[PanelReading]) -> Metric:
    rows = tuple(readings)
    bounds = [*map(str, UPLOAD_BOUNDS), "+Inf"]
    counts = accumulate(totals(reading.uploads for reading in rows))
    return HistogramMetricFamily(
        _PREFIX + "upload_seconds",
        "How long one write to the sink took: a file, an object, a part of one, or a manifest",
        buckets=list(zip(bounds, counts, strict=True)),
        sum_value=sum(reading.upload_seconds for reading in rows),
    )


def _workers(readings: Sequence[PanelReading], now: float) -> Iterator[Metric]:
    restarts = CounterMetricFamily(_PREFIX + _RESTARTS.name, _RESTARTS.text, labels=["worker"])
    ages = GaugeMetricFamily(
        _PREFIX + "worker_heartbeat_age_seconds",
        "Since a worker last said it lives",
        labels=["worker"],
    )
    offsets = GaugeMetricFamily(
        _PREFIX + "clock_offset_seconds",
        "By how much the system's clock is ahead of AWS's, as a worker measured it",
        labels=["worker"],
    )
    for each in readings:
        if each.clock_offset is not None:
            offsets.add_metric([str(each.worker)], each.clock_offset)
        restarts.add_metric([str(each.worker)], each.counters[Counter.WORKER_RESTARTS])
        ages.add_metric([str(each.worker)], max(0.0, now - each.beat_at))
    states = GaugeMetricFamily(_PREFIX + "workers", "Workers by their state", labels=["state"])
    for state in WorkerState:
        states.add_metric([state.name.lower()], sum(each.state is state for each in readings))
    yield from (restarts, ages, states, offsets)
