"""``python -m tests.protocol.wrong_clock``: the receiver on a machine whose clock is off.

By as many seconds as the file ``CLOCK_AHEAD`` says at any moment.
"""

import os
import sys
import time
from pathlib import Path

from store_scp.__main__ import run
from store_scp.logs import configure
from store_scp.settings import Settings


def main() -> int:
    ahead = Path(os.environ["CLOCK_AHEAD"])
    settings = Settings.from_env(os.environ)
    configure(settings.log_level, settings.log_format)
    return run(settings, lambda: time.time() + float(ahead.read_text()))


if __name__ == "__main__":
    sys.exit(main())
