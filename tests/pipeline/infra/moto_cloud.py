"""moto as the AWS that the deploy command meets, and where it is put right.

Put right beside the templates' own gaps (tests/infra/moto_gaps.py): a change set knows no exports,
and its failure is no state of the stack; RetainExceptOnCreate is unknown; REST APIs are imported
from OpenAPI 3 only, and Chalice writes Swagger 2; a data store is none of CloudFormation's.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import urllib3
from moto.apigateway.models import APIGatewayBackend
from moto.awslambda import urls
from moto.cloudformation.models import CloudFormationBackend
from moto.cloudformation.parsing import OutputMap

from local import healthimaging
from local.aws import AwsServer
from tests.infra import moto_gaps

DATASTORE = "0" * 32
_delete_stack = CloudFormationBackend.delete_stack
_import_api, _put_api = APIGatewayBackend.import_rest_api, APIGatewayBackend.put_rest_api


@dataclass
class MotoCloud:
    """The server's address, and the stacks that fail for as long as they are named here.

    ``concurrency`` is the account's Lambda quota, which moto does not know.
    """

    url: str = ""
    concurrency: int = 1_000
    failing: dict[str, str] = field(default_factory=dict)

    def account_settings(self, *_: object) -> tuple[int, dict[str, str], str]:
        """GetAccountSettings' answer; nothing is reserved."""
        limit = {
            "ConcurrentExecutions": self.concurrency,
            "UnreservedConcurrentExecutions": self.concurrency,
        }
        return 200, {}, json.dumps({"AccountLimit": limit})

    def executing(self) -> Callable[..., None]:
        """A method for the backend."""

        def execute(backend: CloudFormationBackend, change_set_name: str, stack_name: str) -> None:
            self._execute(backend, change_set_name)

        return execute

    def _execute(self, backend: CloudFormationBackend, change_set_name: str) -> None:
        """ExecuteChangeSet by what CreateStack and UpdateStack do."""
        change_set = backend.describe_change_set(change_set_name)
        assert change_set is not None
        stack = change_set.stack
        verb = change_set.change_set_type
        if reason := self.failing.get(stack.name):
            stack._add_stack_event(f"{verb}_FAILED", resource_status_reason=reason)
            stack.status = "ROLLBACK_COMPLETE" if verb == "CREATE" else "UPDATE_ROLLBACK_COMPLETE"
            return
        if verb == "CREATE":
            del backend.stacks[stack.stack_id]
            backend.create_stack(stack.name, change_set.template, change_set.parameters)
            return
        given = [
            {"parameter_key": key, "parameter_value": value}
            for key, value in change_set.parameters.items()
        ]
        backend.update_stack(stack.name, change_set.template, None, given, None)


def _delete(backend: CloudFormationBackend, name_or_stack_id: str) -> None:
    """RetainExceptOnCreate keeps what was created; and to describe a stack that is gone, whose
    outputs moto looks up again, does not make its resources once more.
    """
    for stack in list(backend.stacks.values()):
        if name_or_stack_id in {stack.name, stack.stack_id}:
            for resource in stack.resource_map._resource_json_map.values():
                if resource.get("DeletionPolicy") == "RetainExceptOnCreate":
                    resource["DeletionPolicy"] = "Retain"
            _delete_stack(backend, stack.stack_id)
            stack.output_map = OutputMap(stack.resource_map, {}, stack.stack_id)


def _put(
    backend: APIGatewayBackend,
    function_id: str,
    api_doc: dict[str, Any],
    fail_on_warnings: bool,
    mode: str = "merge",
) -> Any:
    document = {name: value for name, value in api_doc.items() if name != "swagger"}
    return _put_api(backend, function_id, {**document, "openapi": "3.0.1"}, False, mode)


def _import(backend: APIGatewayBackend, api_doc: dict[str, Any], fail_on_warnings: bool) -> Any:
    api_doc["info"].setdefault("description", "")
    return _import_api(backend, api_doc, False)


@contextmanager
def running() -> Iterator[MotoCloud]:
    """An empty cloud on the loopback address."""
    cloud = MotoCloud()
    with ExitStack() as stack:
        healthimaging.install()
        stack.enter_context(moto_gaps.filled())
        for backend, name, function in (
            (CloudFormationBackend, "execute_change_set", cloud.executing()),
            (CloudFormationBackend, "delete_stack", _delete),
            (APIGatewayBackend, "put_rest_api", _put),
            (APIGatewayBackend, "import_rest_api", _import),
        ):
            stack.enter_context(mock.patch.object(backend, name, function))
        settings = {"{0}/2016-08-19/account-settings/?$": cloud.account_settings}
        stack.enter_context(mock.patch.dict(urls.url_paths, settings))
        server = AwsServer()
        server.start()
        stack.callback(server.stop)
        host, port = server.get_host_and_port()
        cloud.url = f"http://{host}:{port}"
        # moto keeps its state for as long as the process lives.
        urllib3.request("POST", f"{cloud.url}/moto-api/reset")
        yield cloud
