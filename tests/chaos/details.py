"""All that a run left about one instance or batch: what there is to know about a broken promise."""

from collections.abc import Iterator

from tests.chaos.facts import Evidence


def about(subject: str, evidence: Evidence) -> Iterator[str]:
    """Lines about an instance (its three UIDs) or a batch: what was sent, stored and recorded."""
    rows = [row for row in evidence.instances.values() if subject == row.instance]
    of_instance = (
        *((each, sent) for each, sent in evidence.sent.items() if subject == each.instance),
        *((key, digest) for key, digest in evidence.digests.items() if subject in key),
        *(each for each in evidence.objects if subject in each.key),
        *(each for each in evidence.copies if subject == each.content.instance),
        *rows,
    )
    yield from map(repr, of_instance)
    listing = {
        batch_id: [each for each in manifest.instances if subject == each.instance]
        for batch_id, manifest in evidence.manifests.items()
    }
    batch_ids = {row.batch_id for row in rows} | {
        each for each, listed in listing.items() if listed
    }
    if subject in evidence.batches:
        batch_ids.add(subject)
    for batch_id in sorted(batch_ids):
        has_manifest = batch_id in listing
        yield (
            f"{batch_id} lists {listing[batch_id]}"
            if has_manifest
            else f"{batch_id} has no manifest"
        )
        yield repr(evidence.batches.get(batch_id))
        yield from (repr(job) for job in evidence.service_jobs if job.batch_id == batch_id)
