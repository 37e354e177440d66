"""Retries of seconds instead of hours, so that a run has outages that are longer than all of them.

On AWS a state is tried again for up to hours, and a client's call five times. Here the definition
that the local cloud reads is rewritten (each ``Retry`` has fewer and shorter attempts, and nothing
else is changed), and the Lambdas' clients try a call twice. In an outage both together take ten
seconds at most, and a long one of :mod:`tests.chaos.plan` lasts longer. The two fixed waits of the
definition are shortened by ``CloudOptions.look_again_seconds``.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from chalicelib import aws

from local import names

_ALL = ["States.ALL"]
# What has no name of its own is given up first; throttling, say, is waited for while it lasts.
_UNNAMED_ATTEMPTS, _NAMED_ATTEMPTS = 3, 10
_LONGEST_PAUSE = 2
_CLIENT_ATTEMPTS = 2


def hurried(definition: str) -> str:
    """A state machine's definition whose retries end soon; what is never retried stays so."""
    document = json.loads(definition)
    for state in document["States"].values():
        for retrier in state.get("Retry", ()):
            most = _UNNAMED_ATTEMPTS if retrier["ErrorEquals"] == _ALL else _NAMED_ATTEMPTS
            retrier["MaxAttempts"] = min(retrier["MaxAttempts"], most)
            if retrier["MaxAttempts"]:
                retrier["IntervalSeconds"] = min(retrier["IntervalSeconds"], _LONGEST_PAUSE)
                retrier["MaxDelaySeconds"] = _LONGEST_PAUSE
    return json.dumps(document)


@contextmanager
def in_haste() -> Iterator[None]:
    """For a local cloud that is started, and clients that are made, inside the block."""
    with TemporaryDirectory(prefix="store-scp-haste-") as folder:
        definition = Path(folder) / names.DEFINITION.name
        definition.write_text(hurried(names.DEFINITION.read_text()))
        with (
            patch.object(names, "DEFINITION", definition),
            patch.object(aws._client, "__defaults__", (_CLIENT_ATTEMPTS,)),
        ):
            yield
