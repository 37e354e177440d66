"""Forked processes, none of which outlives the one that forked it."""

import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe
from typing import NoReturn, TypeVar

from store_scp.errors import CannotStart, ReceiverError
from store_scp.logs import describe

T = TypeVar("T")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Lifeline:
    """A pipe that nobody writes to, and whose other end only the parent holds.

    It ends with the parent, however that ends, SIGKILL included.
    """

    def __init__(self) -> None:
        self._watched, self._held = os.pipe()

    def watch(self) -> None:
        """In the child: end with the parent.

        Without a drain: what is not durable was not acknowledged.
        """
        os.close(self._held)
        threading.Thread(
            target=_die_with_parent, args=(self._watched,), name="lifeline", daemon=True
        ).start()

    def close(self) -> None:
        """In the parent, which has no more children of it."""
        os.close(self._watched)
        os.close(self._held)


def in_a_child(work: Callable[[], T]) -> T:
    """What ``work`` returns, or a ReceiverError that it raises, in a process of its own.

    The process has ended when this returns. Raises CannotStart for anything else that happens.
    """
    reader, writer = Pipe(duplex=False)
    lifeline = Lifeline()
    # Until the child has handlers of its own, it has ours.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        pid = os.fork()
    except OSError as error:
        raise CannotStart(f"no process can be started: {error.strerror}") from None
    if pid == 0:
        _answer(writer, lifeline, work)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    writer.close()
    try:
        answer: T | ReceiverError = reader.recv()
    except EOFError:
        raise CannotStart("a process of the start was killed") from None
    finally:
        reader.close()
        lifeline.close()
        os.waitpid(pid, 0)
    if isinstance(answer, ReceiverError):
        raise answer
    return answer


def cause_of(code: int) -> dict[str, object]:
    """Why a child ended, for a log line: its exit code, or the signal that ``-code`` is."""
    if code >= 0:
        return {"exit_code": code}
    known = -code in set(signal.Signals)
    return {"signal": signal.Signals(-code).name if known else str(-code)}


def _answer(writer: Connection, lifeline: Lifeline, work: Callable[[], object]) -> NoReturn:
    """The child's whole life."""
    try:
        lifeline.watch()
        # Ctrl-C reaches every process of a terminal; the parent's end is this one's, too.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        try:
            answer = work()
        except ReceiverError as error:
            answer = error
        except Exception as error:  # noqa: BLE001 - only what we raise is sure to be sent whole
            answer = CannotStart(describe(error))
        writer.send(answer)
    finally:
        os._exit(0)


def _die_with_parent(watched: int) -> None:
    os.read(watched, 1)
    os._exit(1)
