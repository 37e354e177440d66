"""What ``up`` says while its own job API does not answer: it goes on, whatever the answer is."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Self

import pytest

from local import stored, up
from local.follow import ApiFailedError, NotThereError, RestClient
from local.names import Ports
from local.outage import Outage

EMPTY = b'{"jobs": []}'


class Api:
    """An HTTP server that gives one answer, as the test sets it."""

    def __init__(self) -> None:
        self.status, self.body = 200, EMPTY
        self.hangs_up = False
        self.silence = threading.Event()
        self.silence.set()
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                api.silence.wait(5)
                if api.hangs_up:
                    return
                self.send_response(api.status)
                self.send_header("Content-Length", str(len(api.body)))
                self.end_headers()
                self.wfile.write(api.body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}
        )
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.setattr(up, "count_stored", lambda: 7)
    running = Api()
    yield running
    running.stop()


def throttled(api: Api) -> None:
    api.status, api.body = 503, b'{"title": "Service Unavailable"}'


def broken(api: Api) -> None:
    api.status, api.body = 500, b"<html>Internal Server Error</html>"


def no_json(api: Api) -> None:
    api.body = b"<html>"


def no_jobs(api: Api) -> None:
    api.body = b"[]"


def unknown(api: Api) -> None:
    api.status = 404


def hangs_up(api: Api) -> None:
    api.hangs_up = True


@pytest.mark.parametrize(
    ("fail", "why"),
    [
        (throttled, "is answered 503 Service Unavailable"),
        (broken, "is answered 500 Internal Server Error"),
        (no_json, "is not JSON"),
        (no_jobs, "without jobs"),
        (unknown, "is answered 404"),
        (hangs_up, "no answer (ProtocolError)"),
    ],
)
def test_a_failure_is_said_once_and_the_end_of_it_once(
    api: Api, fail: Callable[[Api], None], why: str
) -> None:
    said: list[str] = []
    outage, client = Outage(said.append), RestClient(api.url)
    assert up.describe_progress(client, outage) == (
        "received 7 · importing 0 · imported 0 · failed 0"
    )
    assert said == []
    fail(api)
    assert [up.describe_progress(client, outage) for _ in range(3)] == [None] * 3
    assert len(said) == 1
    assert said[0].startswith("GET /jobs")
    assert why in said[0]
    api.status, api.body, api.hangs_up = 200, EMPTY, False
    assert up.describe_progress(client, outage) is not None
    assert up.describe_progress(client, outage) is not None
    assert said[1:] == ["The job API works again."]


class StoppedCloud:
    """A cloud that Ctrl-C ends while its progress is waited for."""

    dicom_port, rest_url, aws_url, log_folder = 11112, "", "http://aws", "/logs"
    operator_file = "/logs/operator.sh"

    def __init__(self, _: object) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def interrupted(_: float) -> None:
    raise KeyboardInterrupt


def test_what_is_said_after_the_progress_has_a_line_of_its_own(
    api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(StoppedCloud, "rest_url", api.url)
    monkeypatch.setattr(up, "Cloud", StoppedCloud)
    monkeypatch.setattr(up, "time", SimpleNamespace(sleep=interrupted))
    up.keep_running(Ports(1, 2, 3))
    progress, end = capsys.readouterr().out.splitlines()[-2:]
    assert progress == "received 7 · importing 0 · imported 0 · failed 0"
    assert end == "Stopped; what it held is gone."


def test_an_api_that_is_gone_is_no_answer() -> None:
    api = Api()
    api.stop()
    with pytest.raises(ApiFailedError, match=r"no answer \(NewConnectionError\)"):
        RestClient(api.url).jobs()


def test_a_silent_api_is_waited_for_no_longer_than_its_time(api: Api) -> None:
    api.silence.clear()
    with pytest.raises(ApiFailedError, match=r"no answer \(ReadTimeoutError\)"):
        RestClient(api.url, timeout_seconds=0.1).jobs()
    api.silence.set()


def test_what_the_api_does_not_know_has_no_rows(api: Api) -> None:
    unknown(api)
    assert RestClient(api.url).rows("1.2.3") == []
    with pytest.raises(NotThereError):
        RestClient(api.url).instances("job")


def test_a_bucket_that_somebody_has_deleted_holds_nothing() -> None:
    assert stored.count_stored() == 0
