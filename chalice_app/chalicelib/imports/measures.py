"""An import's end, or that it has none yet, as a log line that is also metrics."""

from datetime import datetime

import structlog

from chalicelib.metrics import embedded
from chalicelib.settings import ImportSettings
from contract.records import Counts, JobRecord

_log = structlog.get_logger()


def report_end(job: JobRecord, settings: ImportSettings, now: datetime) -> None:
    """As good as once for each end: not if the step dies right before, twice if two steps race."""
    values = {
        **_values(job.counts),
        "ImportSeconds": (now - job.submitted_at).total_seconds(),
    }
    members = embedded(settings.metric_namespace, now, values)
    _log.info("import_ended", batch_id=job.batch_id, status=job.job_status, **members)


def report_correction(
    job: JobRecord, before: Counts, settings: ImportSettings, now: datetime
) -> None:
    """What was told of the job's end was ``before``: told again is the difference.

    So the metrics' sums are right, even though one value may be negative.
    """
    told = _values(before)
    values = {name: value - told[name] for name, value in _values(job.counts).items()}
    members = embedded(settings.metric_namespace, now, values)
    _log.warning("import_corrected", batch_id=job.batch_id, status=job.job_status, **members)


def report_unsettled(batch_id: str, why: str, settings: ImportSettings, now: datetime) -> None:
    """Nobody knows how the import has ended, or it has not, for longer than is usual.

    The alarm's metric: docs/runbook.md says what to do for each ``why``.
    """
    values = {
        "UnsettledImports": 1,
    }
    members = embedded(settings.metric_namespace, now, values)
    _log.warning("import_unsettled", batch_id=batch_id, why=why, **members)


def _values(counts: Counts) -> dict[str, float]:
    return {
        "ImportedInstances": counts.imported - counts.duplicates,
        "DuplicateInstances": counts.duplicates,
        "FailedInstances": counts.failed,
        "NonPrimaryInstances": counts.non_primary,
    }
