"""Which image sets of other batches' instances HealthImaging still has, each asked for once."""

from collections.abc import Iterable, Set
from dataclasses import dataclass, field

from chalicelib.errors import ImportRefused, ServiceUnavailable
from chalicelib.imports.healthimaging import ImportService
from chalicelib.threads import in_threads
from contract.records import InstanceRecord


@dataclass(frozen=True, slots=True)
class ImageSets:
    """Whether image sets of a data store are there; each is asked for once."""

    datastore_id: str
    service: ImportService
    _asked: dict[str, bool] = field(default_factory=dict)
    _studies: dict[str, str] = field(default_factory=dict)

    def keep(self, rows: Iterable[InstanceRecord]) -> Set[str]:
        """The keys of the rows whose image set is there.

        One that the result files did not name is believed. Raises ServiceUnavailable, and the
        errors of ``imports.healthimaging``.
        """
        by_key = {row.key: row for row in rows}
        new = {
            row.image_set_id: row.study_instance_uid for row in by_key.values() if row.image_set_id
        }
        ids = [each for each in new if each not in self._asked]
        self._studies.update(new)
        self._asked.update(zip(ids, in_threads(self._ask, ids), strict=True))
        return {
            key
            for key, row in by_key.items()
            if row.image_set_id is None or self._asked[row.image_set_id]
        }

    def gone(self) -> dict[str, str]:
        """The studies of those that are not there, by their ids."""
        return {each: self._studies[each] for each, is_kept in self._asked.items() if not is_kept}

    def _ask(self, image_set_id: str) -> bool:
        try:
            return self.service.keeps(self.datastore_id, image_set_id)
        except ImportRefused as error:  # the function's right to ask, not the batch, is at fault
            raise ServiceUnavailable(f"an image set cannot be verified: {error}") from error
