"""Who gets in, by files that may change while the receiver runs: what was usable last holds.

Only the supervisor reads the files: at the start, and at each SIGHUP. It reads each once, and what
it has validated all together is what every worker gets, now and whenever it is started; nobody
reads the files again, which may have changed meanwhile.
"""

import json
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Self

import structlog

from store_scp.certificates import CertificateWatch, expiries_of
from store_scp.errors import CannotStart, SettingsInvalid
from store_scp.files import Read, anonymous_file, read_file
from store_scp.logs import describe
from store_scp.policy import AccessPolicy, policy_from_settings
from store_scp.policy_file import load_policy
from store_scp.settings import Settings
from store_scp.tls import server_context

_DIGEST_BYTES = 32

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class AccessFiles:
    """The bytes of the policy file and of those of TLS, by their paths, as they were read."""

    contents: Mapping[str, bytes]

    def read(self, path: Path) -> bytes:
        """A file's bytes."""
        return self.contents[str(path)]

    def to_bytes(self) -> bytes:
        """For another process of this receiver."""
        return json.dumps(
            {path: each.decode("latin-1") for path, each in self.contents.items()}
        ).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """What ``to_bytes`` has written."""
        return cls({path: each.encode("latin-1") for path, each in json.loads(data).items()})


@dataclass(frozen=True, slots=True)
class Access:
    """What can be changed while the receiver runs: the policy, and TLS where there is TLS."""

    files: AccessFiles
    policy: AccessPolicy
    tls: ssl.SSLContext | None

    @classmethod
    def read(cls, settings: Settings) -> Self:
        """By the files as they are now; raises PolicyInvalid or CannotStart."""
        contents: dict[str, bytes] = {}

        def read_once(path: Path) -> bytes:
            if str(path) not in contents:
                contents[str(path)] = read_file(path)
            return contents[str(path)]

        policy, tls = _build(settings, read_once)
        return cls(AccessFiles(contents), policy, tls)

    @classmethod
    def of(cls, settings: Settings, files: AccessFiles) -> Self:
        """By files that were usable before."""
        return cls(files, *_build(settings, files.read))


class SharedFiles:
    """The files that hold, in memory that every process forked from now on shares.

    The supervisor writes them, workers read them; what is read while it is being written is
    found out by its digest.
    """

    def __init__(self) -> None:
        self._descriptor = anonymous_file("store-scp-access")

    def write(self, files: AccessFiles) -> None:
        """Let these hold; raises OSError."""
        body = files.to_bytes()
        data = memoryview(_digest(body) + body)
        written = 0
        while written < len(data):
            written += os.pwrite(self._descriptor, data[written:], written)
        os.ftruncate(self._descriptor, len(data))

    def read(self) -> AccessFiles | None:
        """What holds; None while it is being written."""
        data = os.pread(self._descriptor, os.fstat(self._descriptor).st_size, 0)
        digest, body = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        return AccessFiles.from_bytes(body) if digest == _digest(body) else None


class HeldAccess:
    """The supervisor's: what was usable last, for workers that run and for those to be started."""

    def __init__(self, settings: Settings, watch: CertificateWatch) -> None:
        """By the files as they are now; raises PolicyInvalid or CannotStart.

        ``watch`` gets the certificates that hold.
        """
        self.shared = SharedFiles()
        self.access = Access.read(settings)
        self._settings = settings
        self._watch = watch
        self.shared.write(self.access.files)
        watch.take(expiries_of(settings, self.access.files.read))

    def reload(self) -> bool:
        """Read the files anew; False if what held before still holds, and a line says why."""
        try:
            access = Access.read(self._settings)
            self.shared.write(access.files)
        except (SettingsInvalid, CannotStart) as error:
            _log.error("reload_failed", why=str(error))
            return False
        except Exception as error:  # noqa: BLE001 - such as no descriptor; the supervisor lives on
            _log.error("reload_failed", why=describe(error))
            return False
        self.access = access
        self._watch.take(expiries_of(self._settings, access.files.read))
        return True


def _build(settings: Settings, read: Read) -> tuple[AccessPolicy, ssl.SSLContext | None]:
    if settings.policy_file is None:
        policy = policy_from_settings(settings)
    else:
        policy = load_policy(settings.policy_file, settings, read)
    return policy, server_context(settings, read) if settings.tls_port is not None else None


def _digest(body: bytes) -> bytes:
    return blake2b(body, digest_size=_DIGEST_BYTES).digest()
