from typing import Any

from local.follow import ApiFailedError, Ledger, Totals, totals, until_complete
from local.outage import Outage


class FakeApi:
    """Answers like the REST API, from a list of jobs and their instances."""

    def __init__(
        self, jobs: list[dict[str, Any]], instances: dict[str, list[dict[str, Any]]]
    ) -> None:
        self.listed = jobs
        self.of_job = instances
        self.asked: list[str] = []

    def jobs(self) -> list[dict[str, Any]]:
        return self.listed

    def instances(self, job_id: str) -> list[dict[str, Any]]:
        self.asked.append(job_id)
        return self.of_job[job_id]


def a_job(
    job_id: str, status: str, instances: int, imported: int = 0, failed: int = 0
) -> dict[str, Any]:
    return {
        "jobId": job_id,
        "jobStatus": status,
        "instanceCount": instances,
        "importedCount": imported,
        "failedCount": failed,
    }


def test_totals_count_running_jobs_as_importing() -> None:
    jobs = [a_job("a", "IN_PROGRESS", 3), a_job("b", "COMPLETED", 5, 4, 1)]
    assert totals(8, jobs) == Totals(received=8, importing=3, imported=4, failed=1)
    assert str(totals(8, jobs)) == "received 8 · importing 3 · imported 4 · failed 1"


def test_a_ledger_is_incomplete_while_an_acknowledged_instance_has_no_end() -> None:
    api = FakeApi(
        [a_job("a", "COMPLETED", 1, 1)], {"a": [{"sopInstanceUID": "1.1", "state": "IMPORTED"}]}
    )
    ledger = Ledger({"1.1", "1.2"})
    ledger.refresh(api)
    assert ledger.missing == {"1.2"}
    assert not ledger.complete


def test_a_ledger_is_complete_once_all_ended_and_asks_for_each_job_once() -> None:
    api = FakeApi(
        [a_job("a", "COMPLETED", 2, 1, 1)],
        {
            "a": [
                {"sopInstanceUID": "1.1", "state": "IMPORTED"},
                {"sopInstanceUID": "1.2", "state": "FAILED", "reason": "no pixels"},
            ]
        },
    )
    ledger = Ledger({"1.1", "1.2"})
    ledger.refresh(api)
    ledger.refresh(api)
    assert ledger.complete
    assert api.asked == ["a"]


def test_a_running_job_keeps_the_ledger_open() -> None:
    api = FakeApi([a_job("a", "SUBMITTED", 1)], {})
    ledger = Ledger(set())
    ledger.refresh(api)
    assert not ledger.complete


class FailingApi(FakeApi):
    """Fails the first time that it is asked for jobs, and for instances."""

    def __init__(
        self, jobs: list[dict[str, Any]], instances: dict[str, list[dict[str, Any]]]
    ) -> None:
        super().__init__(jobs, instances)
        self.failed: set[str] = set()

    def jobs(self) -> list[dict[str, Any]]:
        self._fail_once("jobs")
        return super().jobs()

    def instances(self, job_id: str) -> list[dict[str, Any]]:
        self._fail_once("instances")
        return super().instances(job_id)

    def _fail_once(self, what: str) -> None:
        if what not in self.failed:
            self.failed.add(what)
            raise ApiFailedError(f"GET /{what} is answered 503")


def test_what_the_api_did_not_answer_is_asked_for_again() -> None:
    api = FailingApi(
        [a_job("a", "COMPLETED", 1, 1)], {"a": [{"sopInstanceUID": "1.1", "state": "IMPORTED"}]}
    )
    ledger, said = Ledger({"1.1"}), list[str]()
    seen = list(until_complete(ledger, api, 0, 5, Outage(said.append)))
    assert ledger.complete
    assert seen == [Totals(1, 0, 1, 0)]
    assert said == [
        "GET /jobs is answered 503. This goes on and asks again.",
        "The job API works again.",
    ]


def test_an_api_that_never_answers_ends_the_patience() -> None:
    class NoApi(FakeApi):
        def jobs(self) -> list[dict[str, Any]]:
            raise ApiFailedError("GET /jobs is answered 500")

    ledger = Ledger({"1.1"})
    assert list(until_complete(ledger, NoApi([], {}), 0, 0.05)) == []
    assert ledger.missing == {"1.1"}
