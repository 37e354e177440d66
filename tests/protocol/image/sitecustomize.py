"""Hides from a receiver what its image does not have and this environment does.

pydicom and structlog import these where they find them, which doubles the time of a start.
"""

import sys

for name in ("PIL", "numpy", "requests", "rich"):
    sys.modules[name] = None  # type: ignore[assignment] # an import of it fails
