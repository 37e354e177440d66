"""``python -m store_scp``: the receiver. From its first moment on, SIGTERM ends it."""

import sys

from store_scp.beginning import leave_on_signals

if __name__ == "__main__":
    leave_on_signals()
    # What it imports takes most of a second.
    from store_scp.start import main

    sys.exit(main())
