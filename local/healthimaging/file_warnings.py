"""Why a file was imported with a warning.

https://docs.aws.amazon.com/healthimaging/latest/devguide/reference-warning-codes.html
"""

from enum import Enum


class FileWarning(Enum):
    """A warning's code and what the result file says about it.

    The page prints a wrong decimal for 0xB201 and 0xB202; these are the hexadecimal ones.
    """

    FRAMES_EXTRACTION_FAILURE = (0xB110, "frames could not be extracted from its pixel data")
    FRAME_NUMBER_MISMATCH = (0xB111, "its pixel data does not hold its Number of Frames")
    INVALID_OFFSET_TABLE = (0xB112, "contains an invalid offset table")
    UNSUPPORTED_TRANSFER_SYNTAX = (0xB120, "its transfer syntax is not supported")
    INVALID_UID_FORMAT = (0xB201, "contains a UID that is not well formed")
    INVALID_DICOM_VALUE_LENGTH = (0xB202, "contains a value that is too long to be searched for")

    def __init__(self, code: int, finding: str) -> None:
        self.code = code
        self.message = f"The file was imported but {finding}."

    @property
    def camel_case(self) -> str:
        """The spelling of AWS's example, ``InvalidOffsetTable``; the code table's is the name."""
        return "".join(
            word if word == "DICOM" else word.title() for word in self.name.split("_")
        ).replace("Uid", "UID")
