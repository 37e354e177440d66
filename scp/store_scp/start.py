"""The receiver's life: settings from the environment, instances to the sink, until SIGTERM."""

import functools
import os
import resource
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress

import structlog

from contract.regions import use_aws_region
from store_scp import health, worker
from store_scp.access import HeldAccess
from store_scp.board import Board
from store_scp.certificates import CertificateWatch
from store_scp.errors import CannotStart, SettingsInvalid
from store_scp.listeners import Listeners, open_listeners
from store_scp.logs import configure
from store_scp.settings import Settings
from store_scp.signals import SignalQueue
from store_scp.sinks import prepare_sink
from store_scp.supervisor import SIGNALS, supervise

_USAGE_ERROR = 2
_CANNOT_START = 1


def main() -> int:
    """Run the receiver; the exit code."""
    use_aws_region(os.environ)
    try:
        settings = Settings.from_env(os.environ)
    except SettingsInvalid as error:
        print(error, file=sys.stderr)
        return _USAGE_ERROR
    configure(settings.log_level, settings.log_format)
    try:
        return run(settings)
    except SettingsInvalid as error:  # of the policy file
        print(error, file=sys.stderr)
        return _USAGE_ERROR
    except CannotStart as error:
        print(error, file=sys.stderr)
        return _CANNOT_START


def run(settings: Settings) -> int:
    """Everything that can fail at the start, here and once; then the workers."""
    log = structlog.get_logger()
    open_files = _raise_open_files()
    log.info("settings", **settings.model_dump(mode="json", by_alias=True))
    board = Board.create(settings.workers, settings.maximum_associations)
    watch = CertificateWatch(board.certificate_expires_at)
    held = HeldAccess(settings, watch)
    place = prepare_sink(settings)
    count = settings.workers
    plain = _listen(settings, settings.port if settings.plain else None)
    tls = _listen(settings, settings.tls_port)
    listeners = Listeners(
        workers=[[row[each] for row in (plain, tls) if row] for each in range(count)],
        health=health.open_health_socket(settings),
    )

    def serve(number: int) -> int:
        return worker.run(
            settings,
            place,
            held.access,
            held.shared,
            board.panel(number),
            plain[number] if plain else None,
            tls[number] if tls else None,
        )

    with SignalQueue(SIGNALS) as signals:  # whoever reads the next line may send one
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])
        log.info(
            "listening",
            ae_title=settings.ae_title,
            address=settings.bind_address,
            port=_port(plain),
            tls_port=_port(tls),
            health_port=_port([listeners.health]),
            workers=count,
            open_files=open_files,
            sink=f"s3://{settings.dicom_bucket}"
            if settings.dicom_bucket
            else str(settings.storage_dir),
        )
        code = supervise(
            settings,
            board,
            serve,
            functools.partial(health.serve, settings, board, listeners.health),
            held.reload,
            watch.look,
            listeners,
            signals,
        )
    log.info("stopped")
    return code


def _raise_open_files() -> int | None:
    """As many descriptors for each process as the system lets it have; None: without a limit.

    A soft limit of 1,024, the usual one, is only there for programs that use select(2). Where it
    cannot be raised, it stays.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def _listen(settings: Settings, port: int | None) -> Sequence[socket.socket]:
    if port is None:
        return ()
    return open_listeners(settings.bind_address, port, settings.workers)


def _port(listeners: Sequence[socket.socket]) -> int | None:
    return int(listeners[0].getsockname()[1]) if listeners else None
