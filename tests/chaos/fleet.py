"""Several Store SCPs, as ECS runs tasks: one that has ended is replaced."""

import os
import random
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Self

import psutil  # type: ignore[import-untyped]

from local.errors import LocalCloudError
from local.receiver import Receiver

_LOOK_SECONDS = 0.5
NewReceiver = Callable[[str], Receiver]


class Fleet:
    """``size`` tasks; ``died`` counts those that did not start, or ended without being killed."""

    def __init__(self, new_receiver: NewReceiver, size: int) -> None:
        self._new_receiver = new_receiver
        self._size = size
        self._lock = threading.Lock()
        self._tasks: list[Receiver] = []
        self._leaving: list[Receiver] = []
        self._stalled: dict[int, list[int]] = {}
        self._started = 0
        self._closing = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="fleet", daemon=True)
        self.died = 0

    def __enter__(self) -> Self:
        self._fill()
        self._keeper.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._keeper.join()
        self.wake_all()
        for task in [*self._tasks, *self._leaving]:
            task.__exit__()

    def ports(self) -> list[int]:
        """Where the tasks listen now."""
        with self._lock:
            return [task.port for task in self._tasks]

    def kill_task(self, lot: float) -> None:
        """SIGKILL all processes of a task."""
        for task in self._take(lot):
            task.kill()

    def stop_task(self, lot: float) -> None:
        """SIGTERM a task, as ECS does when it scales in: it drains beside its successor."""
        for task in self._take(lot):
            self._leaving.append(task)
            _signal([task.pid], signal.SIGTERM)

    def kill_worker(self, lot: float) -> None:
        """SIGKILL a worker; its supervisor starts another."""
        _signal(self._processes(lot)[1:2], signal.SIGKILL)

    def stall(self, key: int, lot: float, *, whole: bool) -> None:
        """SIGSTOP a worker, or all processes of a task, until :meth:`wake`."""
        pids = self._processes(lot)
        self._stalled[key] = pids if whole else pids[1:2]
        _signal(self._stalled[key], signal.SIGSTOP)

    def wake(self, key: int) -> None:
        """SIGCONT those that were stalled under this key."""
        _signal(self._stalled.pop(key, []), signal.SIGCONT)

    def wake_all(self) -> None:
        """SIGCONT everything."""
        for key in list(self._stalled):
            self.wake(key)

    def _take(self, lot: float) -> list[Receiver]:
        """One task out of the fleet, if there is any."""
        with self._lock:
            return [self._tasks.pop(int(lot * len(self._tasks)))] if self._tasks else []

    def _processes(self, lot: float) -> list[int]:
        """A task's supervisor, and its workers in the order that the lot draws."""
        with self._lock, suppress(psutil.NoSuchProcess):
            pids = [task.pid for task in self._tasks if task.is_running]
            if pids:
                pid = pids[int(lot * len(pids))]
                workers = [child.pid for child in psutil.Process(pid).children()]
                return [pid, *random.Random(lot).sample(workers, len(workers))]
        return []

    def _keep(self) -> None:
        while not self._closing.wait(_LOOK_SECONDS):
            self._fill()

    def _fill(self) -> None:
        with self._lock:
            running = [task for task in self._tasks if task.is_running]
            self.died += len(self._tasks) - len(running)
            self._tasks = running
            missing = self._size - len(running)
        for _ in range(missing):
            self._started += 1
            try:
                task = self._new_receiver(f"task-{self._started}").__enter__()
            except LocalCloudError:
                self.died += 1  # and once more in a moment
                continue
            with self._lock:
                self._tasks.append(task)


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
