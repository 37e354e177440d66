"""What a hospital sends in a day: studies, their associations, their images. By seed.

The mix is assumed: 2,500 studies have 1.5 million images, most of them of thin-slice CT. So are the
habits that make small batches: a study sent series by series, an exposure or an ultrasound image
sent as soon as it is taken, each in an association of its own.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

_MB = 1_000_000
_DAY = 86_400.0
# A working day with a trough at night; emergencies never stop.
_HOURLY = (1, 1, 1, 1, 1, 2, 4, 7, 9, 9, 9, 8, 6, 8, 8, 7, 6, 4, 3, 2, 2, 1, 1, 1)
# An association sends so fast: the modality's own work for each image, then its network.
_SECONDS_PER_IMAGE = 0.02
_BYTES_PER_SECOND = 40 * _MB
# Where sizes vary by a factor of two or three, the mean of a log-normal one is e^(sigma²/2) higher.
_SIGMA = 0.5
_MEAN_OVER_MEDIAN = 1.133


@dataclass(frozen=True, slots=True)
class Modality:
    """One kind of device, and how it sends.

    ``share`` is of all studies, ``images`` the mean of a study, ``sends`` in how many associations
    it goes (0: each image in one), ``gap`` the mean seconds between two of them.
    """

    name: str
    share: float
    images: float
    size: int
    sends: int
    gap: float
    devices: int


MIX = (
    Modality("DX", 0.42, 2.5, 12 * _MB, 0, 45, 12),
    Modality("CT", 0.21, 2_200, 530_000, 3, 90, 6),
    Modality("MR", 0.10, 900, 200_000, 6, 240, 5),
    Modality("US", 0.10, 60, 1 * _MB, 1, 0, 10),
    Modality("US live", 0.04, 60, 1 * _MB, 0, 25, 4),
    Modality("MG", 0.05, 6, 30 * _MB, 1, 0, 3),
    Modality("XA", 0.03, 25, 20 * _MB, 5, 300, 2),
    Modality("PT", 0.02, 700, 100_000, 2, 120, 1),
    Modality("other", 0.03, 3, 1 * _MB, 1, 0, 3),
)


@dataclass(frozen=True, slots=True)
class Association:
    """Images of one study, sent one after another from ``begins`` on."""

    begins: float
    images: int


@dataclass(frozen=True, slots=True)
class Study:
    """One study and how it is sent. ``size`` is that of an image, in bytes."""

    number: int
    calling_ae_title: str
    size: int
    associations: tuple[Association, ...]

    @property
    def images(self) -> int:
        """In all associations."""
        return sum(each.images for each in self.associations)


@dataclass(frozen=True, slots=True)
class Hospital:
    """How much a hospital does, and with how many receivers."""

    name: str
    studies: int
    tasks: int


SMALL = Hospital("small", 50, 1)
MEDIUM = Hospital("medium", 400, 1)
LARGE = Hospital("large", 2_500, 2)
HOSPITALS = (SMALL, MEDIUM, LARGE)


def seconds_per_image(size: int) -> float:
    """How long a sender is busy with one image."""
    return _SECONDS_PER_IMAGE + size / _BYTES_PER_SECOND


def day(hospital: Hospital, seed: int) -> list[Study]:
    """A day's studies; they begin in the order of their numbers."""
    rng = random.Random(seed)  # noqa: S311
    begins = sorted(_moment(rng) for _ in range(hospital.studies))
    modalities = rng.choices(MIX, [each.share for each in MIX], k=hospital.studies)
    return [
        _study(number, start, modality, rng)
        for number, (start, modality) in enumerate(zip(begins, modalities, strict=True))
    ]


def _moment(rng: random.Random) -> float:
    (hour,) = rng.choices(range(24), _HOURLY)
    return (hour + rng.random()) / 24 * _DAY


def _study(number: int, begins: float, modality: Modality, rng: random.Random) -> Study:
    images = max(1, round(modality.images / _MEAN_OVER_MEDIAN * rng.lognormvariate(0, _SIGMA)))
    sends = min(images, modality.sends or images)
    device = rng.randrange(modality.devices)
    study = Study(number, f"{modality.name.split()[0]}{device + 1}", modality.size, ())
    return replace(
        study, associations=tuple(_associations(study, begins, images, sends, modality, rng))
    )


def _associations(
    study: Study, begins: float, images: int, sends: int, modality: Modality, rng: random.Random
) -> Iterator[Association]:
    for number in range(sends):
        share = images * (number + 1) // sends - images * number // sends
        yield Association(begins, share)
        begins += share * seconds_per_image(study.size)
        # Never in step, and seldom far apart.
        begins += modality.gap * rng.uniform(0.3, 1.7)
