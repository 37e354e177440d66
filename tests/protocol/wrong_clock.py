"""``python -m tests.protocol.wrong_clock``: the receiver on a machine whose clock is off.

By as many seconds as the file ``CLOCK_AHEAD`` says at any moment.
"""

import os
import sys
import time
from pathlib import Path
from unittest import mock

from store_scp.logs import configure
from store_scp.settings import Settings
from store_scp.start import run


def main() -> int:
    ahead = Path(os.environ["CLOCK_AHEAD"])
    settings = Settings.from_env(os.environ)
    configure(settings.log_level, settings.log_format)
    true_time = time.time

    def time_of_day() -> float:
        return true_time() + float(ahead.read_text())

    with mock.patch("time.time", time_of_day):
        return run(settings)


if __name__ == "__main__":
    sys.exit(main())
