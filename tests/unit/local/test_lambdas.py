"""What stands in for the Lambda service."""

import threading
from typing import Any

from moto.stepfunctions.parser.asl.component.state.exec.state_task import lambda_eval_utils

from local import names
from local.lambdas import StateMachineTasks


def test_what_a_task_needs_is_not_stopped_while_it_runs() -> None:
    began, go_on = threading.Event(), threading.Event()
    order: list[str] = []

    def check_status(event: Any, context: Any) -> dict[str, Any]:
        del event, context
        began.set()
        assert go_on.wait(10)
        order.append("the task ends")
        return {}

    def leave(tasks: StateMachineTasks) -> None:
        tasks.__exit__()
        order.append("the rest is stopped")

    parameters = {"FunctionName": names.lambda_arn("check_status")}
    with StateMachineTasks({"check_status": check_status}) as tasks:
        task = threading.Thread(
            target=lambda_eval_utils._invoke_lambda_function,
            args=(parameters, names.REGION, None),
        )
        task.start()
        assert began.wait(10)
        leaving = threading.Thread(target=leave, args=(tasks,))
        leaving.start()
        leaving.join(0.1)
        go_on.set()
        leaving.join(10)
        task.join(10)
    assert order == ["the task ends", "the rest is stopped"]
