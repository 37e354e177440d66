"""The whole product on this machine: AWS stands in, the code is the deployed code.

Process 1 (this one): moto's server as S3, SQS, DynamoDB, EventBridge and Step Functions, the
HealthImaging emulator as one more of its services, the Chalice app's handlers as the Lambdas, and
its REST API.
Process 2: the Store SCP. Everything listens on the loopback address and keeps its state in memory.
"""

import importlib
import logging
import os
import socket
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Self

import boto3
import structlog
import urllib3
from chalice.app import SQSEventConfig
from chalicelib import wiring
from moto.core.config import default_user_config

from local import healthimaging, names, resources
from local.aws import AwsServer
from local.environment import as_shell_lines, aws_environment, lambda_environment
from local.errors import LocalCloudError
from local.lambdas import (
    EventRule,
    EventSourceMapping,
    Schedule,
    StateMachineTasks,
    event_listener,
)
from local.receiver import Receiver
from local.rest import RestApi
from local.roads import RELIABLE, EventFaults, Road

if TYPE_CHECKING:
    from chalice.app import Chalice

_TASKS = ("start_import_job", "check_status", "record_failure")
_QUEUE_CONSUMER = "trigger_import"
_HEALTHIMAGING = "aws.medical-imaging"
_JOB_CONSUMER, _IMAGE_SET_CONSUMER = "on_import_event", "on_image_set_event"
# Which function a rule invokes with HealthImaging's events, by their detail-type; the others go
# nowhere.
_EVENT_CONSUMERS = {
    "Import Job Completed": _JOB_CONSUMER,
    "Import Job Failed": _JOB_CONSUMER,
    "Image Set Deleted": _IMAGE_SET_CONSUMER,
}
# From which level on libraries write to the terminal. Below it, werkzeug has a line for each
# request, urllib3 for each further attempt, and moto's interpreter for each task that fails, which
# the execution's history tells.
_TERMINAL = {"werkzeug": logging.ERROR, "urllib3": logging.ERROR, "moto": logging.CRITICAL}
# Each minute on AWS. Nothing lives here as long as what runs each hour needs.
_SCHEDULED = {
    "announce_events": 1.0,
    "collect_dropbox": 2.0,
    "dispatch_imports": 1.0,
    "recover_batches": 2.0,
}


@dataclass(frozen=True, slots=True)
class CloudOptions:
    """How the local cloud runs. ``poll_seconds`` is the first wait between two status checks.

    ``lambda_settings`` and ``receiver_environment`` are variables beyond those it sets itself.
    ``queue_faults`` are what may happen to S3's events, ``event_faults`` to HealthImaging's; which
    event they hit is decided by ``seed``. ``look_again_seconds`` takes the place of the state
    machine's fixed waits. With ``deletion_again_seconds`` an event of an image set's deletion that
    its handler failed on comes again, so much later, until it is dealt with.
    """

    ports: names.Ports = names.ANY_FREE_PORTS
    emulator: healthimaging.EmulatorOptions = field(default_factory=healthimaging.EmulatorOptions)
    poll_seconds: int = 1
    lambda_settings: Mapping[str, str] = field(default_factory=dict)
    receiver_environment: Mapping[str, str] = field(default_factory=dict)
    queue_faults: EventFaults = RELIABLE
    event_faults: EventFaults = RELIABLE
    seed: int = 0
    look_again_seconds: int | None = None
    deletion_again_seconds: float | None = None


class Cloud:
    """A context manager; inside it, ``rest_url``, ``aws_url`` and ``dicom_port`` say where.

    Entering raises LocalCloudError when a port is taken or the Store SCP does not start.
    """

    def __init__(self, options: CloudOptions | None = None) -> None:
        self._options = options or CloudOptions()
        self._stack = ExitStack()
        self.emulator = healthimaging.install()
        self.queue_road = Road(self._options.queue_faults, f"{self._options.seed}/queue")
        self.event_road = Road(self._options.event_faults, f"{self._options.seed}/events")
        self.deletion_road = Road(self._options.event_faults, f"{self._options.seed}/deletions")
        self.aws_url = ""
        self.rest_url = ""
        self.dicom_port = 0
        self.log_folder = Path()

    def __enter__(self) -> Self:
        require_free(self._options.ports)
        with self._stack:
            self._start()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self) -> None:
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="store-scp-")))
        self.log_folder = folder
        self._stack.callback(_restore_environment, dict(os.environ))
        self._start_aws()
        queue_url = resources.create_all(self._options.look_again_seconds)
        datastore_id = resources.create_datastore()
        os.environ.update(lambda_environment(datastore_id, self._options.poll_seconds))
        os.environ.update(self._options.lambda_settings)
        self.operator_file.write_text(self._operator_environment(datastore_id))
        self._start_lambdas(queue_url)
        receiver = self.receiver("store-scp", self._options.ports.dicom)
        self.dicom_port = self._stack.enter_context(receiver).port

    @property
    def operator_file(self) -> Path:
        """For a shell to source, in which the operator's command line is to work on this cloud."""
        return self.log_folder / "operator.sh"

    def _operator_environment(self, datastore_id: str) -> str:
        lambdas = lambda_environment(datastore_id, self._options.poll_seconds)
        return as_shell_lines(
            {**aws_environment(self.aws_url), **lambdas, **self._options.lambda_settings}
        )

    def receiver(
        self, name: str, port: int = 0, environment: Mapping[str, str] | None = None
    ) -> Receiver:
        """A Store SCP of this cloud, to be entered; beside its own there may be more."""
        variables = {**self._options.receiver_environment, **(environment or {})}
        return Receiver(variables, self.log_folder / f"{name}.log", port)

    def _start_aws(self) -> None:
        for library, level in _TERMINAL.items():
            logging.getLogger(library).setLevel(level)
        self._stack.callback(_configure_step_functions, default_user_config["stepfunctions"])
        _configure_step_functions({"execute_state_machine": True})
        self.emulator.configure(self._options.emulator)
        self._stack.callback(self.emulator.shutdown)
        server = AwsServer(self._options.ports.aws)
        server.start()
        self._stack.callback(server.stop)
        host, port = server.get_host_and_port()
        self.aws_url = f"http://{host}:{port}"
        os.environ.update(aws_environment(self.aws_url))
        # moto keeps its state for as long as the process lives; each cloud starts empty.
        urllib3.request("POST", f"{self.aws_url}/moto-api/reset")

    def _start_lambdas(self, queue_url: str) -> None:
        app_module = importlib.import_module("app")
        wiring.forget()  # an earlier cloud of this process had other ports
        log = self._stack.enter_context((self.log_folder / "lambdas.log").open("w", buffering=1))
        structlog.configure(logger_factory=structlog.WriteLoggerFactory(log))
        self._stack.callback(structlog.reset_defaults)
        app: Chalice = app_module.app
        tasks = {name: getattr(app_module, name) for name in _TASKS}
        self._stack.enter_context(StateMachineTasks(tasks))
        self._stack.callback(resources.stop_executions)
        consumer, size = getattr(app_module, _QUEUE_CONSUMER), batch_size(app, _QUEUE_CONSUMER)
        sqs, road = boto3.client("sqs"), self.queue_road
        self._stack.enter_context(
            EventSourceMapping(sqs, queue_url, _QUEUE_CONSUMER, consumer, road, size)
        )
        self._listen_to_healthimaging(app_module)
        for name, seconds in _SCHEDULED.items():
            self._stack.enter_context(Schedule(name, getattr(app_module, name), seconds))
        self.rest_url = self._stack.enter_context(RestApi(app, self._options.ports.rest)).url

    def _listen_to_healthimaging(self, app_module: ModuleType) -> None:
        again = self._options.deletion_again_seconds
        roads = {
            _JOB_CONSUMER: (self.event_road, None),
            _IMAGE_SET_CONSUMER: (self.deletion_road, again),
        }
        rules = {
            name: self._stack.enter_context(EventRule(name, getattr(app_module, name), *road))
            for name, road in roads.items()
        }
        consumers = {event: rules[name] for event, name in _EVENT_CONSUMERS.items()}
        self.emulator.listen(event_listener(_HEALTHIMAGING, consumers))


def batch_size(app: "Chalice", function: str) -> int:
    """How many messages of its queue an invocation of the function has at most."""
    mappings = (each for each in app.event_sources if isinstance(each, SQSEventConfig))
    (size,) = (each.batch_size for each in mappings if each.name == function)
    return int(size)


def require_free(ports: names.Ports) -> None:
    """Raises LocalCloudError naming the first port that something else listens on."""
    for what, option, port in (
        ("the Store SCP", "--dicom-port", ports.dicom),
        ("the REST API", "--rest-port", ports.rest),
        ("the local AWS", "--aws-port", ports.aws),
    ):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((names.LOOPBACK, port))
            except OSError as error:
                raise LocalCloudError(
                    f"Port {port} for {what} cannot be used ({error.strerror}); "
                    f"stop what listens there or choose another with {option}."
                ) from None


def _restore_environment(before: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(before)


def _configure_step_functions(config: Any) -> None:
    """Of moto, for this process."""
    default_user_config["stepfunctions"] = config
