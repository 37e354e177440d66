"""What can go wrong in the Lambdas. The state machine retries and catches by these class names.

::

    contract.errors.ProductError
    +-- SettingsError           the environment does not fit
    +-- InvalidEvent            a queue message is no S3 event
    +-- MessagesFailed          some messages of an SQS batch must come back
    +-- ObjectUnavailable       an S3 object is not there to be read
    |   +-- ObjectMissing       it is gone
    |   +-- ObjectTooLarge      it is larger than anything of ours
    |   +-- ObjectChanged       it is not the one that was read
    +-- ObjectDenied            S3 refuses an object that may be there
    +-- JobUnfinished           a batch has ended, and the record of its job has not
    +-- ObjectsStay             a batch's objects are not (all) deleted after their retention
    +-- ImportThrottled         429: retried by the state machine
    +-- ImportRunning           the job has not ended: what was asked for must wait
    +-- ImportQuotaExceeded     402, too many jobs at once: retried
    +-- RowUnreadable           an item of a table is not what the product writes
    +-- ServiceUnavailable      5xx, a dropped connection: retried
    +-- ResultsNotReady         the job is done, its result files are not there yet: retried
    +-- ResultsNotUnderstood    the result files are of a form nobody knows: nothing is recorded
    +-- ImportRefused           permanent: what was asked for is wrong, or denied
        +-- ImportUnknown       404: HealthImaging does not know what was asked for
    +-- ApiProblem              what a REST caller is told
        +-- NotFound            404
        +-- BadParameter        400, names the parameter
"""

from http import HTTPStatus

from contract.errors import ProductError


class SettingsError(ProductError):
    """One or more environment variables do not fit; the message names each with its rule."""


class InvalidEvent(ProductError):
    """A text is no S3 event notification; the message does not repeat it."""


class MessagesFailed(ProductError):
    """Some messages of an SQS batch failed; the others have been deleted from the queue."""


class ObjectUnavailable(ProductError):
    """An S3 object cannot be read; the message says why."""


class ObjectMissing(ObjectUnavailable):
    """There is no object under this key (any more)."""


class ObjectTooLarge(ObjectUnavailable):
    """An object is larger than anything the product writes or reads."""


class ObjectChanged(ObjectUnavailable):
    """An object was replaced since it was read; the newer one has an event of its own."""


class ObjectDenied(ProductError):
    """S3 refuses an object: access to it or its key is denied, or it is archived.

    It may be there, and be read again once somebody has changed that.
    """


class JobUnfinished(ProductError):
    """A batch has ended and its job's record has not: an execution has to finish it first."""


class ObjectsStay(ProductError):
    """Some of a batch's objects may not be deleted: S3 denies them, or they are others by now."""


class ImportThrottled(ProductError):
    """HealthImaging's request rate is exceeded (ThrottlingException, 429)."""


class ImportQuotaExceeded(ProductError):
    """The data store runs as many import jobs as it may (ServiceQuotaExceededException, 402)."""


class ImportRunning(ProductError):
    """A batch's import job has not ended, so that nothing of the batch may be imported again."""


class RowUnreadable(ProductError):
    """An item of a table is not what the product writes: somebody else has changed it."""


class ServiceUnavailable(ProductError):
    """An AWS service failed or could not be reached; the same call may work later."""


class ResultsNotReady(ProductError):
    """HealthImaging completed the job, but its result files are not (all) there yet."""


class ResultsNotUnderstood(ProductError):
    """A result file names nothing of the batch: stop, alarm, fail nothing.

    Permanent until the product or the files change: nothing is recorded. The message names the file
    and how many lines it has, never its text.
    """


class ImportRefused(ProductError):
    """HealthImaging will never accept or answer this call; the message is AWS's own."""


class ImportUnknown(ImportRefused):
    """HealthImaging knows no such job or data store (ResourceNotFoundException, 404)."""


class ApiProblem(ProductError):
    """A REST answer other than success; the message becomes the problem's ``detail``."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR


class NotFound(ApiProblem):
    """The resource does not exist."""

    status = HTTPStatus.NOT_FOUND


class BadParameter(ApiProblem):
    """A path or query parameter is wrong."""

    status = HTTPStatus.BAD_REQUEST

    def __init__(self, parameter: str, rule: str) -> None:
        super().__init__(f"{parameter}: {rule}")
        self.parameter = parameter
