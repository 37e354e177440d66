"""Files of the operator's that are read whole, and files that have no name."""

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# A file's bytes; raises OSError.
Read = Callable[[Path], bytes]

# This process's open files by their numbers (proc(5)); not there in a chroot without /proc.
_DESCRIPTORS = Path("/proc/self/fd")
# No policy, and no bundle of every public CA, has a tenth of it: a wrong path is found out here.
_MAX_BYTES = 16 * 1024**2


def read_file(path: Path) -> bytes:
    """A file's bytes as they are now; raises OSError, also for one that is far too large."""
    with path.open("rb") as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return content


def anonymous_file(name: str) -> int:
    """A file without a path, in memory where the system has such files; ``name`` is for people."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


@contextmanager
def path_of(content: bytes) -> Iterator[str]:
    """Where a library that takes only paths can read these bytes; raises OSError.

    A file in memory where the system has such files: the container's are read-only.
    """
    if hasattr(os, "memfd_create") and _DESCRIPTORS.is_dir():
        with open(anonymous_file("store-scp-tls"), "wb") as file:
            file.write(content)
            file.flush()
            yield f"{_DESCRIPTORS}/{file.fileno()}"
    else:
        with tempfile.NamedTemporaryFile() as named:
            named.write(content)
            named.flush()
            yield named.name
