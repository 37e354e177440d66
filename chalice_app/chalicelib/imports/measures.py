"""An import's end as a log line that is also metrics."""

from datetime import datetime

import structlog

from chalicelib.metrics import embedded
from chalicelib.settings import ImportSettings
from contract.records import JobRecord

_log = structlog.get_logger()


def report_end(job: JobRecord, settings: ImportSettings, now: datetime) -> None:
    """As good as once for each end: not if the step dies right before, twice if two steps race."""
    counts = job.counts
    values = {
        "ImportedInstances": counts.imported - counts.duplicates,
        "DuplicateInstances": counts.duplicates,
        "FailedInstances": counts.failed,
        "NonPrimaryInstances": counts.non_primary,
        "ImportSeconds": (now - job.submitted_at).total_seconds(),
    }
    members = embedded(settings.metric_namespace, now, values)
    _log.info("import_ended", batch_id=job.batch_id, status=job.job_status, **members)
