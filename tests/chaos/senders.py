"""Storage SCUs that send studies, and again what was not acknowledged, as modalities do.

Now and then they send again what was acknowledged: at once, or long ago, as an archive does that is
moved. Meanwhile HealthImaging may have failed it, or somebody may have deleted it there.
"""

import os
import random
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, _config
from pynetdicom.association import Association
from pynetdicom.presentation import build_context

from local.names import LOOPBACK
from tests.chaos.ledger import Answer, Ledger
from tests.chaos.studies import Image, corrected, new_study
from tests.interop.programs import DCMTK_ENVIRONMENT

CALLED_AE_TITLE = "STORESCP"
_SUCCESS = 0
# Longer than a stall lasts: some answers do come at last, others never.
_PATIENCE = 20
_ATTEMPTS = 8
_SENT_AGAIN = 0.1
_SENT_FROM_ARCHIVE = 0.3
_CORRECTED = 0.15
# As many studies are kept: the oldest was sent about a minute ago.
_ARCHIVED = 8
# moto's server, one process, keeps up with this: or little of the storm would meet an import.
_PAUSES = (1.5, 5.0)
Store = Callable[[str, int, Sequence[Image]], dict[str, Answer]]


def store_by_dcmtk(calling: str, port: int, images: Sequence[Image]) -> dict[str, Answer]:
    """DCMTK's storescu; its log tells what became of each file."""
    files = {str(image.path): image.sop_instance_uid for image in images}
    timeouts = [flag for name in ("to", "ts", "ta", "td") for flag in (f"-{name}", str(_PATIENCE))]
    done = subprocess.run(
        ["storescu", "-v", "-nh", "-xe", *timeouts, "-aet", calling, "-aec", CALLED_AE_TITLE,
         LOOPBACK, str(port), *files],
        env={**os.environ, **DCMTK_ENVIRONMENT},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    return answers_in_log(done.stdout, files)


def answers_in_log(log: str, files: dict[str, str]) -> dict[str, Answer]:
    """What storescu's verbose log says of each request it sent."""
    answers: dict[str, Answer] = {}
    uid = ""
    for line in log.splitlines():
        _, _, text = line.partition("I: ")
        if text.startswith("Sending file: "):
            uid = files[text.removeprefix("Sending file: ")]
        elif text.startswith("Sending Store Request"):
            answers[uid] = Answer.NONE
        elif text.startswith("Received Store Response"):
            answers[uid] = Answer.ACKNOWLEDGED if "(Success)" in text else Answer.REFUSED
    return answers


def store_by_pynetdicom(calling: str, port: int, images: Sequence[Image]) -> dict[str, Answer]:
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
        answers[image.sop_instance_uid] = _store(association, image.path)
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
    archive: deque[Sequence[Image]] = field(default_factory=deque)

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
        if self.chance.random() < _CORRECTED:
            with ThreadPoolExecutor(2) as both:  # two archives, one of them behind
                list(both.map(self._deliver, (study, corrected(study))))
        else:
            self._deliver(study)
        if self.chance.random() < _SENT_AGAIN:
            self._deliver(study)  # somebody pushed the button twice
        if self.archive and self.chance.random() < _SENT_FROM_ARCHIVE:
            self._deliver(self.chance.choice(self.archive))
        self.archive.append(study)
        if len(self.archive) > _ARCHIVED:
            shutil.rmtree(self.archive.popleft()[0].path.parent)

    def _deliver(self, images: Sequence[Image]) -> None:
        """Until all are acknowledged, or patience is over."""
        for _ in range(_ATTEMPTS):
            answers = self._send(images)
            images = [
                image
                for image in images
                if answers.get(image.sop_instance_uid) is not Answer.ACKNOWLEDGED
            ]
            if not images or self.stop.is_set():
                return
            self.stop.wait(self.chance.uniform(*_PAUSES))

    def _send(self, images: Sequence[Image]) -> dict[str, Answer]:
        ports = self.ports()
        if not ports:
            return {}
        answers = self.store(self.calling, self.chance.choice(ports), images)
        for image in images:
            if image.sop_instance_uid in answers:
                answer = answers[image.sop_instance_uid]
                self.ledger.record(image.sop_instance_uid, answer, image.version)
        return answers
