"""The service's errors; botocore's model gives each code its HTTP status when it is serialised.

https://docs.aws.amazon.com/healthimaging/latest/APIReference/API_StartDICOMImportJob.html

::

    ServiceException (moto)
    +-- ValidationException            400
    +-- ServiceQuotaExceededException  402
    +-- AccessDeniedException          403
    +-- ResourceNotFoundException      404
    +-- ConflictException              409
    +-- ThrottlingException            429
    +-- InternalServerException        500
    ImportFailed                       no answer: a job that ends FAILED, with this message
"""

from moto.core.exceptions import ServiceException


class ValidationException(ServiceException):
    """A member breaks a constraint of the service model."""

    code = "ValidationException"


class ServiceQuotaExceededException(ServiceException):
    """A quota, not a rate, is used up."""

    code = "ServiceQuotaExceededException"


class AccessDeniedException(ServiceException):
    """The caller may not use the action."""

    code = "AccessDeniedException"


class ResourceNotFoundException(ServiceException):
    """No such data store, job, image set, version or frame."""

    code = "ResourceNotFoundException"


class ConflictException(ServiceException):
    """The resource's state forbids the request."""

    code = "ConflictException"


class ThrottlingException(ServiceException):
    """The action's token bucket is empty."""

    code = "ThrottlingException"


class InternalServerException(ServiceException):
    """The service failed; whether it did what it was asked, it does not say."""

    code = "InternalServerException"


class ImportFailed(Exception):
    """An import job cannot go on; the text becomes its ``message``."""
