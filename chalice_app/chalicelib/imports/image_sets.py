"""Which image sets of other batches' instances HealthImaging still has, each asked for once."""

from dataclasses import dataclass, field

from chalicelib.errors import ImportRefused, ServiceUnavailable
from chalicelib.imports.healthimaging import ImportService
from contract.records import InstanceRecord


@dataclass(frozen=True, slots=True)
class ImageSets:
    """Whether image sets of a data store are there; each is asked for once."""

    datastore_id: str
    service: ImportService
    _asked: dict[str, bool] = field(default_factory=dict)
    _studies: dict[str, str] = field(default_factory=dict)

    def keep(self, row: InstanceRecord) -> bool:
        """Whether the row's is there; one that the result files did not name is believed."""
        image_set_id = row.image_set_id
        if image_set_id is None:
            return True
        if image_set_id not in self._asked:
            self._asked[image_set_id] = self._ask(image_set_id)
            self._studies[image_set_id] = row.study_instance_uid
        return self._asked[image_set_id]

    def gone(self) -> dict[str, str]:
        """The studies of those that are not there, by their ids."""
        return {each: self._studies[each] for each, is_kept in self._asked.items() if not is_kept}

    def _ask(self, image_set_id: str) -> bool:
        try:
            return self.service.keeps(self.datastore_id, image_set_id)
        except ImportRefused as error:  # the function's right to ask, not the batch, is at fault
            raise ServiceUnavailable(f"an image set cannot be verified: {error}") from error
