"""What HealthImaging itself has of a study, for a job whose result files are lost.

A study's image sets are searched, and their metadata tell which SOP instances are in them. That is
slower than result files, tells no warnings, and cannot tell one import of an instance from another;
so it is the last thing that is asked.
https://docs.aws.amazon.com/healthimaging/latest/devguide/search-image-sets.html
https://docs.aws.amazon.com/healthimaging/latest/devguide/get-image-set-metadata.html
"""

import json
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chalicelib.errors import ResultsNotUnderstood
from chalicelib.imports.outcome import Outcome, Results
from contract.manifest import Manifest

if TYPE_CHECKING:
    from mypy_boto3_medical_imaging import HealthImagingClient

# Of an import job, a copy or an update: https://docs.aws.amazon.com/general/latest/gr/healthimaging.html
_MAX_METADATA_BYTES = 50 * 1024 * 1024
_GZIP = 16 + zlib.MAX_WBITS
LOST = "not in HealthImaging; the job's result files are lost"


@dataclass(frozen=True, slots=True)
class Held:
    """Where an instance is."""

    image_set_id: str
    version: int
    is_primary: bool | None


def read_inventory(
    client: "HealthImagingClient", datastore_id: str, study_instance_uid: str
) -> dict[str, Held]:
    """A study's instances by SOP Instance UID; the primary's where several image sets have one."""
    found: dict[str, Held] = {}
    for summary in _image_sets(client, datastore_id, study_instance_uid):
        held = Held(summary["imageSetId"], summary["version"], summary.get("isPrimary"))
        answer = client.get_image_set_metadata(
            datastoreId=datastore_id, imageSetId=held.image_set_id
        )
        for uid in instances_in(answer["imageSetMetadataBlob"].read(_MAX_METADATA_BYTES)):
            if held.is_primary or uid not in found:
                found[uid] = held
    return found


def _image_sets(
    client: "HealthImagingClient", datastore_id: str, study_instance_uid: str
) -> Iterator[Mapping[str, Any]]:
    pages = client.get_paginator("search_image_sets").paginate(
        datastoreId=datastore_id,
        searchCriteria={
            "filters": [
                {"values": [{"DICOMStudyInstanceUID": study_instance_uid}], "operator": "EQUAL"}
            ]
        },
    )
    for page in pages:
        yield from page["imageSetsMetadataSummaries"]


def instances_in(blob: bytes) -> frozenset[str]:
    """The SOP Instance UIDs of an image set, from its metadata, compressed or not.

    Raises ResultsNotUnderstood where that is not what AWS documents.
    """
    try:
        if blob.startswith(b"\x1f\x8b"):
            blob = zlib.decompressobj(_GZIP).decompress(blob, _MAX_METADATA_BYTES)
        series = json.loads(blob)["Study"]["Series"].values()
        return frozenset(uid for each in series for uid in each["Instances"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, zlib.error):
        raise ResultsNotUnderstood("an image set's metadata are of another form") from None


def results_of(
    manifest: Manifest, held: Mapping[str, Held], duplicates: Collection[str]
) -> Results:
    """One outcome for each of the manifest's instances; ``duplicates`` are keys left out."""
    outcomes = {
        each.key: Outcome(duplicate=True)
        if each.key in duplicates
        else _outcome(held.get(each.sop_instance_uid))
        for each in manifest.instances
    }
    ids = (each.image_set_id for each in outcomes.values() if each.image_set_id is not None)
    return Results(outcomes, tuple(dict.fromkeys(ids)))


def _outcome(held: Held | None) -> Outcome:
    if held is None:
        return Outcome(LOST)
    return Outcome(
        image_set_id=held.image_set_id,
        image_set_version=held.version,
        is_primary=held.is_primary,
    )
