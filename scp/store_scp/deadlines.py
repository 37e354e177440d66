"""How long the end of a receiver takes after DRAIN_SECONDS, and what each part of it is for.

With the default of DRAIN_SECONDS, all together is below the 120 s after which Fargate kills a task.
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task_definition_parameters.html
"""

# How long a peer that is aborted at the end of the drain may take to read so.
ABORT_SECONDS = 2.0
# For the manifests.
CLOSE_SECONDS = 10.0
# For what is then left of the worker: its threads, its connections, its last lines.
_LEAVE_SECONDS = 3.0
# From the end of the drain until the supervisor kills what is left of the workers.
WORKER_SECONDS = ABORT_SECONDS + CLOSE_SECONDS + _LEAVE_SECONDS
# After the last worker: the health process has nothing to finish but one line.
HEALTH_SECONDS = 3.0
