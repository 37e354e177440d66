"""``demo``: files through the whole pipeline, and what became of each."""

import tempfile
from pathlib import Path

from local import report, samples
from local.cloud import Cloud, CloudOptions
from local.events import count_until_told
from local.follow import Ledger, RestClient, until_complete
from local.names import AE_TITLE, LOOPBACK
from local.outage import Outage
from local.report import console, print_line
from local.sending import Selection, Tally, deliver, select

_EVERY_SECONDS = 0.5
_PATIENCE_SECONDS = 180.0
_EVENT_PATIENCE_SECONDS = 10.0
# A study counts as complete after this quiet time; the deployed default is longer.
_DEMO_BATCHES = {"BATCH_QUIET_SECONDS": "2"}


def demonstrate(source: str) -> bool:
    """Whether all was acknowledged, and is imported or has a reason; raises LocalCloudError."""
    with tempfile.TemporaryDirectory(prefix="store-scp-demo-") as work:
        selection = select(samples.find(source, Path(work)))  # before anything is started for it
        with Cloud(CloudOptions(receiver_environment=_DEMO_BATCHES)) as cloud:
            return _demonstrate(selection, cloud)


def _demonstrate(selection: Selection, cloud: Cloud) -> bool:
    console.print(f"The local cloud runs; sending to {AE_TITLE} at {LOOPBACK}:{cloud.dicom_port}.")
    tally = Tally()
    sent = deliver(selection, LOOPBACK, cloud.dicom_port, AE_TITLE, tally)
    acknowledged = {each.sample.sop_instance_uid for each in sent if each.acknowledged}
    ledger, client, outage = Ledger(acknowledged), RestClient(cloud.rest_url), Outage(print_line)
    with report.live_line() as update:
        for now in until_complete(ledger, client, _EVERY_SECONDS, _PATIENCE_SECONDS, outage):
            update(str(now))
    console.print(report.jobs_table(ledger.jobs))
    counts = count_until_told({job["batchId"] for job in ledger.jobs}, _EVENT_PATIENCE_SECONDS)
    console.print(report.events_line(counts))
    report.print_failures(ledger.instances.values())
    report.print_tally(tally)
    return _verdict(tally, ledger)


def _verdict(tally: Tally, ledger: Ledger) -> bool:
    for uid in sorted(ledger.missing):
        console.print(f"LOST: {uid} was acknowledged, and no job accounts for it.")
    imported = sum(each["state"] == "IMPORTED" for each in ledger.instances.values())
    sent = tally.acknowledged + tally.refused
    console.print(
        f"{sent} sent, {len(ledger.acknowledged)} acknowledged, {imported} imported, "
        f"{len(ledger.instances) - imported} failed with a reason, {len(ledger.missing)} lost."
    )
    return tally.is_complete and ledger.complete
