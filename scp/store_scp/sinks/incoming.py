"""The folder of a directory's partial files: whose each is, and which are nobody's any more.

Each worker has a claim: a file that it keeps locked (flock(2)) for as long as it lives, however it
ends. The names of its partial files begin with the claim's. So whoever finds a partial file can
tell whether its worker lives, be it of another receiver, or, where the file system knows the locks
of all machines (NFS, EFS), on another machine.
"""

import asyncio
import errno
import fcntl
import itertools
import os
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from store_scp.errors import CannotStart

_FOLDER = ".incoming"
_LOCK_SUFFIX = ".lock"
_MODE = 0o640
# Between two looks at whether the directory takes files.
_CHECK_SECONDS = 1.0

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Directory:
    """Where files go, and whether that was the root of a mounted file system at the start."""

    root: Path
    mounted: bool

    @property
    def incoming(self) -> Path:
        """The folder of partial files."""
        return self.root / _FOLDER

    def claim(self) -> "Claim":
        """A worker's claim, in a folder that is made if it is missing; raises OSError.

        The root is never made: where it is gone, or no mount any more, a disk is missing, and what
        would be written in its place would be lost under it.
        """
        if self.mounted and not self.root.is_mount():
            raise _error(errno.ENODEV)
        self.incoming.mkdir(exist_ok=True)
        return Claim(self.incoming)


def prepare_directory(root: Path) -> Directory:
    """Make the directory, and remove what dead receivers left unfinished; raises CannotStart."""
    try:
        (root / _FOLDER).mkdir(parents=True, exist_ok=True)
        directory = Directory(root, root.is_mount())
        directory.claim().release()
        sweep(directory.incoming)
    except OSError as error:
        raise CannotStart(f"STORAGE_DIR={root}: {os.strerror(error.errno or 0)}") from None
    return directory


class Incoming:
    """One worker's partial files; looks every second whether the directory takes any.

    What is missing is made again, and what passes is found out: nobody has to do anything here.
    """

    def __init__(self, directory: Directory, threads: Executor) -> None:
        """To be closed; removes what dead workers have left."""
        self.trouble: str | None = None
        self._directory = directory
        self._threads = threads
        self._claim: Claim | None = None
        self.renew()
        with suppress(OSError):  # then it stays for the next
            sweep(directory.incoming)
        self._watch = asyncio.get_running_loop().create_task(self._look())

    def partial(self) -> str:
        """A path for a new partial file; raises FileNotFoundError while there is no folder."""
        if self._claim is None:
            raise _error(errno.ENOENT)
        return self._claim.partial()

    def renew(self) -> None:
        """Make the folder, where it is missing, and a claim in it."""
        self._release()
        try:
            self._claim = self._directory.claim()
        except OSError as error:
            self._note(error)
        else:
            self._note(None)

    def close(self) -> None:
        """Nothing is written any more."""
        self._watch.cancel()
        self._release()

    def _release(self) -> None:
        if self._claim is not None:
            self._claim.release()
            self._claim = None

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            claim, error = self._claim, None
            try:
                if claim is not None:
                    await loop.run_in_executor(self._threads, claim.check)
            except OSError as caught:
                error = caught
            if claim is not self._claim:
                continue  # an instance has found out meanwhile
            if claim is None or isinstance(error, FileNotFoundError):
                self.renew()
            else:
                self._note(error)

    def _note(self, error: OSError | None) -> None:
        """Tell, where that is news, whether the directory takes files."""
        before, self.trouble = self.trouble, word(error) if error else None
        if error and not before:
            _log.error(
                "storage_unavailable",
                directory=str(self._directory.root),
                why=self.trouble,
                system_says=os.strerror(error.errno or 0),
            )
        elif before and not error:
            _log.info("storage_available")


class Claim:
    """One worker's; made in a folder that exists, and released when nothing more is written."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError."""
        self._folder = folder
        self._path, self._descriptor = _locked_file(folder)
        self._numbers = itertools.count()

    def partial(self) -> str:
        """A path for a new partial file."""
        return f"{self._folder}/{self._path.stem}-{next(self._numbers)}"

    def check(self) -> None:
        """Raises OSError where nothing can be written; FileNotFoundError if the claim is gone."""
        if not _is_at(self._descriptor, self._path):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self._path))
        space = os.statvfs(self._folder)
        if space.f_flag & os.ST_RDONLY:
            raise _error(errno.EROFS)
        if not os.access(self._folder, os.W_OK | os.X_OK):
            raise _error(errno.EACCES)
        # Some file systems do not count, and have 0 of 0.
        if (space.f_blocks and not space.f_bavail) or (space.f_files and not space.f_favail):
            raise _error(errno.ENOSPC)

    def release(self) -> None:
        """Nothing is written any more."""
        with suppress(OSError):
            if _is_at(self._descriptor, self._path):
                self._path.unlink()
        os.close(self._descriptor)


def sweep(folder: Path) -> None:
    """Remove what dead workers have left, and nothing of one that lives; raises OSError."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in folder.iterdir():
        owner, _, _ = path.name.removesuffix(_LOCK_SUFFIX).partition("-")
        found[owner].append(path)
    for owner, paths in found.items():
        with _dead(folder / f"{owner}{_LOCK_SUFFIX}") as is_dead:
            if is_dead:
                for path in paths:
                    path.unlink(missing_ok=True)


@contextmanager
def _dead(lock: Path) -> Iterator[bool]:
    """Whether nobody has the claim; nobody gets it meanwhile.

    A claim is made before the first partial file of its name, so that without a claim its worker
    is dead, or it is of a receiver without claims.
    """
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield True
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)


def _locked_file(folder: Path) -> tuple[Path, int]:
    while True:
        path = folder / f"{os.urandom(8).hex()}{_LOCK_SUFFIX}"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(descriptor, path):
                return path, descriptor
        except BlockingIOError:
            pass  # whoever sweeps was faster, and removes it
        except OSError:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def word(error: OSError) -> str:
    """The system's name for an error, such as ENOSPC."""
    return errno.errorcode.get(error.errno or 0, "OSError")


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
