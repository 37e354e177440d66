"""Follows instances through the pipeline by asking the REST API, as any client would."""

import time
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol

import urllib3

from contract.records import InstanceState, JobStatus
from local.outage import Outage

Json = dict[str, Any]
# Longer than the app needs for its own attempts at DynamoDB.
_TIMEOUT_SECONDS = 30.0
_ENDED = {InstanceState.IMPORTED, InstanceState.FAILED}


class JobApi(Protocol):
    """What following needs of the job API."""

    def jobs(self) -> list[Json]:
        """Every import job, the newest first."""

    def instances(self, job_id: str) -> list[Json]:
        """Every instance of one job."""


class ApiFailedError(Exception):
    """The API did not give what was asked for; it may the next time. The message says why."""


class NotThereError(ApiFailedError):
    """The API knows nothing of what was asked for."""


class RestClient:
    """Reads the job API; every page of every list. Its methods raise ApiFailedError."""

    def __init__(self, url: str, timeout_seconds: float = _TIMEOUT_SECONDS) -> None:
        self._url = url
        self._http = urllib3.PoolManager(
            timeout=timeout_seconds, retries=urllib3.Retry(total=3, read=0, backoff_factor=0.2)
        )

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
            page = self._page(path, fields)
            if not isinstance(page.get(member), list):
                raise ApiFailedError(f"GET {path} has an answer without {member}")
            yield from page[member]
            if "nextCursor" not in page:
                return
            fields["cursor"] = page["nextCursor"]

    def _page(self, path: str, fields: Mapping[str, str]) -> Json:
        try:
            answer = self._http.request("GET", self._url + path, fields=fields)
        except urllib3.exceptions.HTTPError as error:
            why = getattr(error, "reason", None) or error  # of a MaxRetryError
            raise ApiFailedError(f"GET {path} has no answer ({type(why).__name__})") from error
        if answer.status == HTTPStatus.NOT_FOUND:
            raise NotThereError(f"GET {path} is answered 404")
        if answer.status != HTTPStatus.OK:
            raise ApiFailedError(f"GET {path} is answered {answer.status} {answer.reason}")
        try:
            page = answer.json()
        except ValueError as error:
            raise ApiFailedError(f"GET {path} has an answer that is not JSON") from error
        return page if isinstance(page, dict) else {}


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
                for instance in client.instances(job["jobId"]):
                    if instance["state"] in _ENDED:
                        self.instances[instance["sopInstanceUID"]] = instance
                self._read.add(job["jobId"])  # not before: if this fails, it is asked for again

    @property
    def missing(self) -> Set[str]:
        """Acknowledged SOP Instance UIDs that are neither imported nor failed."""
        return self.acknowledged - self.instances.keys()

    @property
    def complete(self) -> bool:
        """Whether nothing is on its way any more."""
        return not self.missing and all(JobStatus(job["jobStatus"]).ended for job in self.jobs)


def until_complete(
    ledger: Ledger,
    client: JobApi,
    every_seconds: float,
    patience_seconds: float,
    outage: Outage | None = None,
) -> Iterator[Totals]:
    """Refresh until the ledger is complete, or until nothing changed for ``patience_seconds``.

    What the API does not answer meanwhile is no change; ``outage`` says it.
    """
    changed_at, last = time.monotonic(), Totals()
    while time.monotonic() - changed_at < patience_seconds:
        if _refreshed(ledger, client, outage):
            now = totals(len(ledger.acknowledged), ledger.jobs)
            yield now
            if ledger.complete:
                return
            if now != last:
                changed_at, last = time.monotonic(), now
        time.sleep(every_seconds)


def _refreshed(ledger: Ledger, client: JobApi, outage: Outage | None) -> bool:
    """Refresh the ledger; False if the API did not answer."""
    try:
        ledger.refresh(client)
    except ApiFailedError as error:
        if outage:
            outage.failed(str(error))
        return False
    if outage:
        outage.worked("The job API")
    return True
