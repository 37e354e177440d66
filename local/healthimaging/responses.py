"""The operations on the wire: routed, parsed and serialised from botocore's service model."""

import gzip
import json
from collections.abc import Mapping
from typing import Any

from moto.core.common_types import TYPE_RESPONSE
from moto.core.exceptions import ServiceException
from moto.core.request import Request
from moto.core.responses import ActionResult, BaseResponse, EmptyResult
from moto.core.utils import camelcase_to_underscores, method_names_from_class

from local.healthimaging import answers
from local.healthimaging.emulator import EMULATOR
from local.healthimaging.errors import InternalServerException, ValidationException
from local.healthimaging.models import REGIONS, MedicalImagingBackend, medicalimaging_backends
from local.healthimaging.pages import page
from local.healthimaging.search import DEFAULT_SORT, search
from local.healthimaging.validation import SERVICE, request_violations

# What GetImageFrame calls a frame, by the transfer syntax it is stored in; anything else is
# application/octet-stream. From the service model, and for what the service would have transcoded
# PS3.18 8.7.3.
_MEDIA_TYPES: Mapping[str, str] = {
    **dict.fromkeys(("50", "51", "57", "70"), "image/jpeg"),
    **dict.fromkeys(("80", "81"), "image/jls"),
    **dict.fromkeys(("90", "91", "92", "93"), "image/j2c"),
    **dict.fromkeys(("100", "100.1", "101", "101.1"), "video/mpeg"),
    **{f"{number}{form}": "video/mp4" for number in range(102, 107) for form in ("", ".1")},
    **dict.fromkeys(("107", "108"), "video/H256"),
    "112": "image/jxl",
    **dict.fromkeys(("201", "202"), "image/jph"),
    "203": "image/jphc",
}
_COMPRESSED = "1.2.840.10008.1.2.4."


class MedicalImagingResponse(BaseResponse):
    """One request: it takes a token, then its members are checked, then it is carried out."""

    def __init__(self) -> None:
        super().__init__(service_name=SERVICE)
        self.automated_parameter_parsing = True
        self._is_malformed = False

    @property
    def backend(self) -> MedicalImagingBackend:
        """The data stores of the caller's account and Region."""
        return medicalimaging_backends[self.current_account][self.region]

    def parse_parameters(self, request: Request) -> None:
        """Parse by the service model; a body that is of another shape is answered later."""
        try:
            super().parse_parameters(request)
        except (AttributeError, TypeError, ValueError):
            self._is_malformed = True

    def call_action(self) -> TYPE_RESPONSE:
        """Answer, or say what is wrong."""
        operation = self._get_action()
        if not operation:
            return self._refusal(404, "UnknownOperationException", "No such operation")
        if camelcase_to_underscores(operation) not in method_names_from_class(type(self)):
            return self._refusal(501, "NotImplementedException", f"{operation} is not emulated")
        try:
            self._check(operation)
        except ServiceException as error:
            return self.serialized(ActionResult(error))
        return super().call_action()

    def create_datastore(self) -> ActionResult:
        """A data store; it is said to be CREATING, and ACTIVE from the next call on."""
        datastore = self.backend.create_datastore(self.params)
        return ActionResult({"datastoreId": datastore.datastore_id, "datastoreStatus": "CREATING"})

    def get_datastore(self) -> ActionResult:
        """A data store's properties."""
        datastore = self.backend.datastore(self.params["datastoreId"])
        return ActionResult({"datastoreProperties": answers.datastore_properties(datastore)})

    def list_datastores(self) -> ActionResult:
        """The data stores, by age."""
        found, token = self._page(self.backend.datastores(self.params.get("datastoreStatus")))
        summaries = [answers.datastore_summary(each) for each in found]
        return ActionResult({"datastoreSummaries": summaries, "nextToken": token})

    def delete_datastore(self) -> ActionResult:
        """Delete an empty data store."""
        self.backend.delete_datastore(self.params["datastoreId"])
        return ActionResult(
            {"datastoreId": self.params["datastoreId"], "datastoreStatus": "DELETING"}
        )

    def start_dicom_import_job(self) -> ActionResult:
        """Start an import job, or find the one this clientToken started."""
        job = self.backend.start_import_job(self.params)
        if EMULATOR.take_lost_answer():
            raise InternalServerException("The request processing has failed")
        return ActionResult(answers.job_started(job))

    def get_dicom_import_job(self) -> ActionResult:
        """A job's properties."""
        job = self.backend.import_job(self.params["datastoreId"], self.params["jobId"])
        return ActionResult({"jobProperties": answers.job_properties(job)})

    def list_dicom_import_jobs(self) -> ActionResult:
        """A data store's jobs, by age."""
        jobs = self.backend.import_jobs(self.params["datastoreId"], self.params.get("jobStatus"))
        found, token = self._page(jobs)
        summaries = [answers.job_summary(each) for each in found]
        return ActionResult({"jobSummaries": summaries, "nextToken": token})

    def search_image_sets(self) -> ActionResult:
        """The latest versions of the image sets that meet the criteria."""
        datastore = self.backend.datastore(self.params["datastoreId"])
        criteria = self.params.get("searchCriteria") or {}
        sort = criteria.get("sort") or DEFAULT_SORT
        everything = datastore.image_sets.values()
        found, token = self._page(search(everything, criteria.get("filters") or (), sort))
        return ActionResult(
            {
                "imageSetsMetadataSummaries": answers.image_set_summaries(found, everything),
                "sort": sort,
                "nextToken": token,
            }
        )

    def get_image_set(self) -> ActionResult:
        """One version's properties."""
        datastore = self.backend.datastore(self.params["datastoreId"])
        image_set = self.backend.shown_image_set(datastore.datastore_id, self.params["imageSetId"])
        version = self.backend.version(image_set, self.params.get("versionId"))
        return ActionResult(answers.image_set_answer(datastore, image_set, version))

    def delete_image_set(self) -> ActionResult:
        """Begin to delete an image set, with all its versions."""
        datastore = self.backend.datastore(self.params["datastoreId"])
        locked = self.backend.delete_image_set(datastore.datastore_id, self.params["imageSetId"])
        return ActionResult(answers.image_set_deleting(datastore, locked))

    def list_image_set_versions(self) -> ActionResult:
        """Every version's properties, oldest first."""
        image_set = self.backend.image_set(self.params["datastoreId"], self.params["imageSetId"])
        found, token = self._page(image_set.versions)
        versions = [answers.image_set_properties(image_set, each) for each in found]
        return ActionResult({"imageSetPropertiesList": versions, "nextToken": token})

    def get_image_set_metadata(self) -> ActionResult:
        """One version's metadata document, gzip-compressed."""
        document = self.backend.image_set_metadata(
            self.params["datastoreId"], self.params["imageSetId"], self.params.get("versionId")
        )
        # moto's serialiser calls every body application/json; what is set here comes after it.
        self.response_headers["Content-Type"] = "application/json"
        blob = gzip.compress(document, mtime=0)
        return ActionResult({"imageSetMetadataBlob": blob, "contentEncoding": "gzip"})

    def get_image_frame(self) -> ActionResult:
        """The frame in the transfer syntax it was imported in, never transcoded to HTJ2K."""
        blob, syntax = self.backend.image_frame(
            self.params["datastoreId"],
            self.params["imageSetId"],
            self.params["imageFrameInformation"]["imageFrameId"],
        )
        media_type = _MEDIA_TYPES.get(syntax.removeprefix(_COMPRESSED), "application/octet-stream")
        self.response_headers["Content-Type"] = media_type
        return ActionResult({"imageFrameBlob": blob})

    def tag_resource(self) -> ActionResult:
        """Add or change tags."""
        self.backend.tags(self.params["resourceArn"]).update(self.params["tags"])
        return EmptyResult()

    def untag_resource(self) -> ActionResult:
        """Remove tags; one that is not there is no error."""
        tags = self.backend.tags(self.params["resourceArn"])
        for key in self.params["tagKeys"]:
            tags.pop(key, None)
        return EmptyResult()

    def list_tags_for_resource(self) -> ActionResult:
        """A resource's tags."""
        return ActionResult({"tags": self.backend.tags(self.params["resourceArn"])})

    def _check(self, operation: str) -> None:
        if self.region not in REGIONS:
            raise ValidationException(f"HealthImaging is not available in {self.region}")
        self.backend.admit(operation)
        if self._is_malformed:
            raise ValidationException("The request is not of the shape of its service model")
        broken = request_violations(operation, self.params)
        if broken:
            count = f"{len(broken)} validation error{'s' if len(broken) > 1 else ''} detected"
            raise ValidationException(f"{count}: {'; '.join(broken)}")

    def _page(self, items: Any) -> tuple[list[Any], str | None]:
        return page(items, self.params.get("maxResults"), self.params.get("nextToken"))

    @staticmethod
    def _refusal(status: int, code: str, message: str) -> TYPE_RESPONSE:
        headers = {"Content-Type": "application/json", "X-Amzn-Errortype": code}
        return status, headers, json.dumps({"message": message})
