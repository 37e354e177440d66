"""All that a run left about one instance or batch: what there is to know about a broken promise."""

from collections.abc import Iterator

from tests.chaos.facts import Evidence


def about(subject: str, evidence: Evidence) -> Iterator[str]:
    """Lines about an instance (its three UIDs) or a batch: what was sent, stored and recorded."""
    of_instance = (
        *((each, sent) for each, sent in evidence.sent.items() if subject == each.instance),
        *((key, digest) for key, digest in evidence.digests.items() if subject in key),
        *(each for each in evidence.objects if subject in each.key),
        *(each for each in evidence.copies if subject == each.content.instance),
        *(row for row in evidence.instances.values() if subject == row.instance),
    )
    yield from map(repr, of_instance)
    rows = (row for row in evidence.instances.values() if subject == row.instance)
    batch_ids = {row.batch_id for row in rows} | {
        batch_id
        for batch_id, manifest in evidence.manifests.items()
        if subject == batch_id or any(subject == each.instance for each in manifest.instances)
    }
    for batch_id in sorted(batch_ids):
        manifest = evidence.manifests.get(batch_id)
        listed = (
            [each for each in manifest.instances if subject == each.instance] if manifest else []
        )
        yield f"{batch_id} lists {listed}" if manifest else f"{batch_id} has no manifest"
        yield repr(evidence.batches.get(batch_id))
        yield from (repr(job) for job in evidence.service_jobs if job.batch_id == batch_id)
