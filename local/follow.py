"""Follows instances through the pipeline by asking the REST API, as any client would."""

import time
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from typing import Any, Protocol

import urllib3

from contract.records import InstanceState, JobStatus

Json = dict[str, Any]
_ENDED = {InstanceState.IMPORTED, InstanceState.FAILED}


class JobApi(Protocol):
    """What following needs of the job API."""

    def jobs(self) -> list[Json]:
        """Every import job, the newest first."""

    def instances(self, job_id: str) -> list[Json]:
        """Every instance of one job."""


class NotThereError(LookupError):
    """The API knows nothing of what was asked for."""


class RestClient:
    """Reads the job API; every page of every list."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._http = urllib3.PoolManager(retries=urllib3.Retry(total=3, backoff_factor=0.2))

    def jobs(self) -> list[Json]:
        """Every import job, the newest first."""
        return list(self._pages("/jobs", "jobs"))

    def instances(self, job_id: str) -> list[Json]:
        """Every instance of one job."""
        return list(self._pages(f"/jobs/{job_id}/instances", "instances"))

    def rows(self, sop_instance_uid: str) -> list[Json]:
        """What the ledger says of a UID, in every study and series; nothing if it knows none."""
        try:
            return list(self._pages(f"/instances/{sop_instance_uid}", "instances"))
        except NotThereError:
            return []

    def _pages(self, path: str, member: str) -> Iterator[Json]:
        fields = {"limit": "100"}
        while True:
            answer = self._http.request("GET", self._url + path, fields=fields)
            page = answer.json()
            if answer.status == 404:  # noqa: PLR2004 - HTTP's own number
                raise NotThereError(path)
            if answer.status != 200:  # noqa: PLR2004 - HTTP's own number
                raise RuntimeError(f"GET {path}: {answer.status} {page.get('title', '')}")
            yield from page[member]
            if "nextCursor" not in page:
                return
            fields["cursor"] = page["nextCursor"]


@dataclass(frozen=True, slots=True)
class Totals:
    """The progress line: instances, by how far they are."""

    received: int = 0
    importing: int = 0
    imported: int = 0
    failed: int = 0

    def __str__(self) -> str:
        return (
            f"received {self.received} · importing {self.importing} · "
            f"imported {self.imported} · failed {self.failed}"
        )


def totals(received: int, jobs: list[Json]) -> Totals:
    """Add up what the jobs say of their instances."""
    running = [job for job in jobs if not JobStatus(job["jobStatus"]).ended]
    return Totals(
        received=received,
        importing=sum(job["instanceCount"] for job in running),
        imported=sum(job["importedCount"] for job in jobs),
        failed=sum(job["failedCount"] for job in jobs),
    )


@dataclass(slots=True)
class Ledger:
    """What the API says of each acknowledged instance; complete when all of them have ended."""

    acknowledged: Set[str]
    jobs: list[Json] = field(default_factory=list)
    instances: dict[str, Json] = field(default_factory=dict)
    _read: set[str] = field(default_factory=set)

    def refresh(self, client: JobApi) -> None:
        """Ask for the jobs, and for the instances of each job that has ended since."""
        self.jobs = client.jobs()
        for job in self.jobs:
            if JobStatus(job["jobStatus"]).ended and job["jobId"] not in self._read:
                self._read.add(job["jobId"])
                for instance in client.instances(job["jobId"]):
                    if instance["state"] in _ENDED:
                        self.instances[instance["sopInstanceUID"]] = instance

    @property
    def missing(self) -> Set[str]:
        """Acknowledged SOP Instance UIDs that are neither imported nor failed."""
        return self.acknowledged - self.instances.keys()

    @property
    def complete(self) -> bool:
        """Whether nothing is on its way any more."""
        return not self.missing and all(JobStatus(job["jobStatus"]).ended for job in self.jobs)


def until_complete(
    ledger: Ledger, client: JobApi, every_seconds: float, patience_seconds: float
) -> Iterator[Totals]:
    """Refresh until the ledger is complete, or until nothing changed for ``patience_seconds``."""
    changed_at, last = time.monotonic(), Totals()
    while time.monotonic() - changed_at < patience_seconds:
        ledger.refresh(client)
        now = totals(len(ledger.acknowledged), ledger.jobs)
        yield now
        if ledger.complete:
            return
        if now != last:
            changed_at, last = time.monotonic(), now
        time.sleep(every_seconds)
