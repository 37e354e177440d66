"""Receivers that the tests of one pytest process share: one for each set of settings."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pytest

from tests.protocol.receiver import ReceiverProcess
from tests.protocol.vitals import (
    GoodPeer,
    Vitals,
    assert_unharmed,
    baseline,
    files,
    plain_peer,
)

# Seconds: the shortest deadline that a good peer on a busy machine meets.
SHORT = 1.0
# A loop counts a timer from the beginning of its turn, which may be earlier than what set it: on a
# busy machine such a deadline ends some time too early.
AT_LEAST = SHORT / 2
# So many associations are let in at once.
FEW = 4


@dataclass(slots=True)
class SharedReceivers:
    """Starts a receiver when its settings are first asked for, and stops all of them at the end.

    Each that nobody stopped before has to leave with exit code 0 and a log without planted text.
    """

    folder: Path
    _running: dict[frozenset[tuple[str, str]], "_Running"] = field(default_factory=dict)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with ExitStack() as stack:
            for each in self._running.values():
                stack.push(each.process)

    @contextmanager
    def using(
        self,
        settings: Mapping[str, str],
        good: GoodPeer = plain_peer,
        *,
        stores: bool = False,
    ) -> Iterator[ReceiverProcess]:
        """A receiver for one test: unharmed afterwards, with nothing stored of the test.

        ``settings`` without a bucket get a folder. A test that ``stores`` may leave instances
        there, which are removed.
        """
        key = frozenset(settings.items())
        if key not in self._running:
            self._running[key] = self._started(settings, good)
        process, base = self._running[key].process, self._running[key].base
        try:
            process.forget()
            yield process
            assert_unharmed(process, base, good)
            added = files(process) - base.files
            for each in added:
                each.unlink()
            assert stores or not added
            assert files(process) == base.files
        except BaseException:  # the next test has one that is unharmed
            del self._running[key]
            process.stop()
            raise

    def _started(self, settings: Mapping[str, str], good: GoodPeer) -> "_Running":
        folder = {} if "DICOM_BUCKET" in settings else {"STORAGE_DIR": str(self._new_folder())}
        process = ReceiverProcess(**folder, **settings)
        with ExitStack() as stack:
            stack.enter_context(process)
            started = _Running(process, baseline(process, good))
            stack.pop_all()
        return started

    def _new_folder(self) -> Path:
        folder = self.folder / f"storage-{len(self._running)}"
        while folder.exists():
            folder = folder.with_name(f"{folder.name}-again")
        return folder


@dataclass(frozen=True, slots=True)
class _Running:
    process: ReceiverProcess
    base: Vitals


@pytest.fixture(scope="session")
def receivers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedReceivers]:
    """The receivers of this pytest process."""
    with SharedReceivers(tmp_path_factory.mktemp("receivers")) as shared:
        yield shared
