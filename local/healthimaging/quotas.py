"""Throttling rates and service quotas, and the token bucket that applies a rate.

https://docs.aws.amazon.com/healthimaging/latest/devguide/throttling-limits.html
https://docs.aws.amazon.com/general/latest/gr/healthimaging.html
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class QuotaProfile(StrEnum):
    """Which edition of AWS's tables holds."""

    Y2026 = "2026"
    Y2023 = "2023"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Rate:
    """Sustained calls per second, and how many may come at once."""

    per_second: float
    burst: int


@dataclass(frozen=True, slots=True)
class TokenBucket:
    """A bucket that was ``tokens`` full at ``updated_at`` (seconds on any clock)."""

    rate: Rate
    tokens: float
    updated_at: float

    @classmethod
    def full(cls, rate: Rate, now: float) -> "TokenBucket":
        """A bucket nobody has used yet."""
        return cls(rate, rate.burst, now)

    def take(self, now: float) -> "TokenBucket | None":
        """The bucket after one call at ``now``; None where the call must be throttled."""
        # A clock that steps back refills nothing.
        elapsed = max(0.0, now - self.updated_at)
        tokens = min(float(self.rate.burst), self.tokens + elapsed * self.rate.per_second)
        if tokens < 1:
            return None
        return TokenBucket(self.rate, tokens - 1, max(now, self.updated_at))


@dataclass(frozen=True, slots=True)
class Quotas:
    """One edition of the tables. None means unlimited."""

    rates: Mapping[str, Rate]
    datastores: int | None
    concurrent_import_jobs: int | None
    concurrent_import_jobs_by_region: Mapping[str, int]

    def import_jobs_in(self, region: str) -> int | None:
        """How many import jobs one data store may have at once (quota L-23763099)."""
        return self.concurrent_import_jobs_by_region.get(region, self.concurrent_import_jobs)


_RATES_2026 = {
    "CreateDatastore": Rate(0.085, 1),
    "DeleteDatastore": Rate(0.085, 1),
    "GetDatastore": Rate(10, 20),
    "ListDatastores": Rate(5, 10),
    "StartDICOMImportJob": Rate(1, 2),
    "GetDICOMImportJob": Rate(25, 50),
    "ListDICOMImportJobs": Rate(10, 20),
    "SearchImageSets": Rate(25, 50),
    "GetImageSet": Rate(25, 50),
    "ListImageSetVersions": Rate(25, 50),
    "GetImageSetMetadata": Rate(50, 100),
    "GetImageFrame": Rate(1000, 2000),
    "DeleteImageSet": Rate(0.25, 1),
    "TagResource": Rate(10, 20),
    "ListTagsForResource": Rate(10, 20),
    "UntagResource": Rate(10, 20),
}
_SMALLER_REGIONS = MappingProxyType({"ap-southeast-2": 20})

QUOTAS: Mapping[QuotaProfile, Quotas] = MappingProxyType(
    {
        QuotaProfile.Y2026: Quotas(
            rates=MappingProxyType(_RATES_2026),
            datastores=100,
            concurrent_import_jobs=100,
            concurrent_import_jobs_by_region=_SMALLER_REGIONS,
        ),
        # Older copies of the page; accounts of that age may still have these numbers.
        QuotaProfile.Y2023: Quotas(
            rates=MappingProxyType(_RATES_2026 | {"StartDICOMImportJob": Rate(0.25, 1)}),
            datastores=10,
            concurrent_import_jobs=100,
            concurrent_import_jobs_by_region=_SMALLER_REGIONS,
        ),
        QuotaProfile.NONE: Quotas(
            rates=MappingProxyType({}),
            datastores=None,
            concurrent_import_jobs=None,
            concurrent_import_jobs_by_region=MappingProxyType({}),
        ),
    }
)
