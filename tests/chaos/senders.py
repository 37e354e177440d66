"""Storage SCUs that send studies, and again what was not acknowledged, as modalities do.

Now and then they send again what was acknowledged: at once, or long ago, as an archive does that is
moved. Meanwhile HealthImaging may have failed it, or somebody may have deleted it there. Of some
studies they send two versions, in one association, in two at once, or one behind the other.
"""

import os
import random
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, _config
from pynetdicom.association import Association
from pynetdicom.presentation import build_context

from local.names import LOOPBACK
from tests.chaos.contents import Variant
from tests.chaos.ledger import Answer, Ledger
from tests.chaos.studies import Image, new_study, varied
from tests.interop.programs import DCMTK_ENVIRONMENT

CALLED_AE_TITLE = "STORESCP"
_SUCCESS = 0
# Longer than a stall lasts: some answers do come at last, others never.
_PATIENCE = 20
_ATTEMPTS = 8
_SENT_AGAIN = 0.1
_SENT_FROM_ARCHIVE = 0.3
# Of how many studies there is another version: each kind several times in two minutes.
_VARIED: Mapping[Variant, float] = {
    Variant.CORRECTED: 0.1,
    Variant.FORGED: 0.16,
    Variant.MOVED: 0.1,
    Variant.SECOND_SERIES: 0.1,
}
# As many studies are kept: the oldest was sent about a minute ago.
_ARCHIVED = 8
# moto's server, one process, keeps up with this: or little of the storm would meet an import.
_PAUSES = (1.5, 5.0)
T = TypeVar("T")
Answers = dict[Image, Answer]
Store = Callable[[str, int, Sequence[Image]], Answers]


def store_by_dcmtk(calling: str, port: int, images: Sequence[Image]) -> Answers:
    """DCMTK's storescu; its log tells what became of each file."""
    files = {str(image.path): image for image in images}
    timeouts = [flag for name in ("to", "ts", "ta", "td") for flag in (f"-{name}", str(_PATIENCE))]
    done = subprocess.run(
        ["storescu", "-v", "-nh", "-xe", *timeouts, "-aet", calling, "-aec", CALLED_AE_TITLE,
         LOOPBACK, str(port), *files],
        env={**os.environ, **DCMTK_ENVIRONMENT},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    return answers_in_log(done.stdout, files)


def answers_in_log(log: str, files: Mapping[str, T]) -> dict[T, Answer]:
    """What storescu's verbose log says of each request it sent, by what the file is."""
    answers: dict[str, Answer] = {}
    path = ""
    for line in log.splitlines():
        _, _, text = line.partition("I: ")
        if text.startswith("Sending file: "):
            path = text.removeprefix("Sending file: ")
        elif text.startswith("Sending Store Request"):
            answers[path] = Answer.NONE
        elif text.startswith("Received Store Response"):
            answers[path] = Answer.ACKNOWLEDGED if "(Success)" in text else Answer.REFUSED
    return {files[path]: answer for path, answer in answers.items()}


def store_by_pynetdicom(calling: str, port: int, images: Sequence[Image]) -> Answers:
    """pynetdicom, each file's own bytes."""
    _config.STORE_SEND_CHUNKED_DATASET = True
    entity = AE(ae_title=calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = _PATIENCE
    contexts = [build_context(CTImageStorage, ExplicitVRLittleEndian)]
    association = entity.associate(LOOPBACK, port, contexts, ae_title=CALLED_AE_TITLE)
    answers = {}
    for image in images:
        if not association.is_established:
            break
        answers[image] = _store(association, image.path)
    if association.is_established:
        association.release()
    return answers


def _store(association: Association, path: Path) -> Answer:
    try:
        response = association.send_c_store(path)
    except RuntimeError:  # the association ended between the look at it and the request
        return Answer.NONE
    if "Status" not in response:
        return Answer.NONE
    return Answer.ACKNOWLEDGED if response.Status == _SUCCESS else Answer.REFUSED


@dataclass(frozen=True, slots=True)
class Sender:
    """One modality: studies one after the other, until ``stop``."""

    calling: str
    store: Store
    ports: Callable[[], list[int]]
    ledger: Ledger
    chance: random.Random
    stop: threading.Event
    archive: deque[list[Sequence[Image]]] = field(default_factory=deque)

    def run(self) -> None:
        with TemporaryDirectory(prefix="store-scp-chaos-") as folder:
            number = 0
            while not self.stop.is_set():
                number += 1
                self._work(Path(folder, str(number)))
                self.stop.wait(self.chance.uniform(*_PAUSES))

    def _work(self, folder: Path) -> None:
        folder.mkdir()
        study = new_study(folder, self.chance)
        versions: list[Sequence[Image]] = [study]
        if variant := drawn_variant(self.chance):
            versions.append(varied(study, variant, self.chance))
        self._deliver_all(versions)
        if self.chance.random() < _SENT_AGAIN:
            self._deliver(self.chance.choice(versions))  # somebody pushed the button twice
        if self.archive and self.chance.random() < _SENT_FROM_ARCHIVE:
            self._deliver(self.chance.choice(self.chance.choice(self.archive)))
        self.archive.append(versions)
        if len(self.archive) > _ARCHIVED:
            shutil.rmtree(self.archive.popleft()[0][0].path.parent)

    def _deliver_all(self, versions: Sequence[Sequence[Image]]) -> None:
        match self.chance.randrange(3):
            case 0:  # in one association
                self._deliver([image for images in versions for image in images])
            case 1:  # two archives, one of them behind
                with ThreadPoolExecutor(len(versions)) as both:
                    list(both.map(self._deliver, versions))
            case _:
                for images in versions:
                    self._deliver(images)

    def _deliver(self, images: Sequence[Image]) -> None:
        """Until all are acknowledged, or patience is over."""
        for _ in range(_ATTEMPTS):
            answers = self._send(images)
            images = [each for each in images if answers.get(each) is not Answer.ACKNOWLEDGED]
            if not images or self.stop.is_set():
                return
            self.stop.wait(self.chance.uniform(*_PAUSES))

    def _send(self, images: Sequence[Image]) -> Answers:
        ports = self.ports()
        if not ports:
            return {}
        answers = self.store(self.calling, self.chance.choice(ports), images)
        for image, answer in answers.items():
            self.ledger.record(image.content, answer, image.variant)
        return answers


def drawn_variant(chance: random.Random) -> Variant | None:
    """Which other version there is of a study, if there is one."""
    lot = chance.random()
    for variant, share in _VARIED.items():
        if lot < share:
            return variant
        lot -= share
    return None
