"""``python -m store_scp.probe``: whether the receiver beside it lives, as an exit code.

What the image's HEALTHCHECK and a task definition call: there is no curl in the image.
"""

import os
import sys
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException

from store_scp.logs import describe
from store_scp.settings import Settings

# Below the image's own time limit, so that the reason is told.
_SECONDS = 5.0


def main() -> int:
    """0 if ``/health/live`` says so, else 1, and what it said instead."""
    settings = Settings.from_env(os.environ)
    # Where it listens on all addresses, that is also where one of its own is reached.
    connection = HTTPConnection(settings.bind_address, settings.health_port, timeout=_SECONDS)
    try:
        connection.request("GET", "/health/live")
        response = connection.getresponse()
        body = response.read()
    except (OSError, HTTPException) as error:
        print(describe(error), file=sys.stderr)
        return 1
    finally:
        connection.close()
    if response.status == HTTPStatus.OK:
        return 0
    print(body.decode(), file=sys.stderr, end="")
    return 1


if __name__ == "__main__":
    sys.exit(main())
