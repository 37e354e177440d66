"""Somebody puts files into the dropbox, by S3 alone: good ones, and every kind that is not.

What S3 has taken must be imported, put aside or named as blocked, whatever lies beside it. A file
that replaces another is put soon after it, while that one may be being collected.
"""

import random
import threading
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from contract.checksums import Checksum
from contract.keys import DROPBOX_PREFIX
from local import names
from tests.chaos.contents import Content
from tests.chaos.deeds import Archive
from tests.chaos.ledger import Answer, Ledger
from tests.chaos.studies import Image, new_study

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_PAUSES = (1.0, 4.0)
_REPLACED_WITHIN = 3.0


class Drop(StrEnum):
    """What a dropped object is."""

    GOOD = "good"
    ARCHIVED = "archived"
    NO_DICOM = "no DICOM"
    CONTROL_CHARACTER = "with a control character in its key"
    LIKE_A_FOLDER = "with a key like a folder's"
    FOLDER = "a console's folder"
    REPLACED = "replaced"


@dataclass(frozen=True, slots=True)
class Dropper:
    """Drops one study after the other, and something odd beside each, until ``stop``.

    ``ledger`` has what S3 took as acknowledged; what was replaced may be imported or not.
    """

    s3: "S3Client"
    ledger: Ledger
    archive: Archive
    chance: random.Random
    stop: threading.Event
    counts: Counter[Drop] = field(default_factory=Counter)

    def run(self) -> None:
        """Until ``stop``."""
        odd: list[Drop] = []
        with TemporaryDirectory(prefix="store-scp-chaos-drops-") as folder:
            number = 0
            while not self.stop.wait(self.chance.uniform(*_PAUSES)):
                number += 1
                where = Path(folder, str(number))
                where.mkdir()
                good, *rest = new_study(where, self.chance)
                if not odd:
                    odd = list(Drop)
                    self.chance.shuffle(odd)
                for image in rest:
                    self._drop(Drop.GOOD, image, f"{number}/{image.path.name}")
                self._drop(odd.pop(), good, f"{number}/odd")

    def _drop(self, kind: Drop, image: Image, name: str) -> None:
        self.counts[kind] += 1
        match kind:
            case Drop.NO_DICOM:
                self._put(name, self.chance.randbytes(300))
            case Drop.FOLDER:
                self._put(f"{name}/", b"")
            case Drop.LIKE_A_FOLDER:
                self._put_image(f"{name}/", image)
            case Drop.CONTROL_CHARACTER:
                self._put_image(f"{name}\x01.dcm", image)
            case Drop.ARCHIVED:
                self._put_image(name, image)
                self.archive.add(DROPBOX_PREFIX + name)
            case Drop.REPLACED:
                self._replace(name, image)
            case Drop.GOOD:
                self._put_image(name, image)

    def _replace(self, name: str, image: Image) -> None:
        """Another study's file comes under the same name."""
        self._put_image(name, image, Answer.NONE)
        where = image.path.parent / "newer"
        where.mkdir()
        newer, *_ = new_study(where, self.chance)
        self.stop.wait(self.chance.uniform(0, _REPLACED_WITHIN))
        self._put_image(name, newer)

    def _put_image(self, name: str, image: Image, answer: Answer = Answer.ACKNOWLEDGED) -> None:
        body = image.path.read_bytes()
        # Before the PUT, since it may be imported before that has returned.
        self.ledger.record(Content(image.content.instance, Checksum.of(body)), answer)
        self._put(name, body)

    def _put(self, name: str, body: bytes) -> None:
        self.s3.put_object(Bucket=names.DICOM_BUCKET, Key=DROPBOX_PREFIX + name, Body=body)
