"""Every status the receiver sends, each with the one condition that causes it.

PS3.2 N.7.3.2.5.2 asks for a documented condition per code, so every ``Cxxx`` has its own.
"""

from enum import Enum, StrEnum


class Category(StrEnum):
    """PS3.7 Annex C's classes of status; the receiver sends no warnings."""

    SUCCESS = "Success"
    FAILURE = "Failure"


class Status(Enum):
    """Code, category, Error Comment (0000,0902) and clause. A comment has at most 64 characters."""

    SUCCESS = (
        0x0000,
        Category.SUCCESS,
        "The sink confirmed the instance",
        "PS3.4 Table B.2-1",
    )
    PROCESSING_FAILURE = (
        0x0110,
        Category.FAILURE,
        "The instance could not be stored; an operator has to look",
        "PS3.7 C.5",
    )
    INVALID_SOP_INSTANCE = (
        0x0117,
        Category.FAILURE,
        "Affected SOP Instance UID is not a UID",
        "PS3.7 C.5",
    )
    SOP_CLASS_NOT_SUPPORTED = (
        0x0122,
        Category.FAILURE,
        "Affected SOP Class is not the presentation context's",
        "PS3.7 C.5",
    )
    OUT_OF_RESOURCES = (
        0xA700,
        Category.FAILURE,
        "Storage is unavailable now, or the instance is too large",
        "PS3.4 Table B.2-1",
    )
    DATA_SET_MISMATCH = (
        0xA900,
        Category.FAILURE,
        "SOP Class or Instance UID of command and data set differ",
        "PS3.4 Table B.2-1",
    )
    UNREADABLE_HEADER = (
        0xC000,
        Category.FAILURE,
        "Data set is not readable up to Series Instance UID",
        "PS3.4 Table B.2-1",
    )
    NO_DATA_SET = (
        0xC001,
        Category.FAILURE,
        "The request has no data set",
        "PS3.4 Table B.2-1",
    )
    NO_SOP_CLASS_UID = (
        0xC002,
        Category.FAILURE,
        "Data set has no valid SOP Class UID",
        "PS3.4 Table B.2-1",
    )
    NO_SOP_INSTANCE_UID = (
        0xC003,
        Category.FAILURE,
        "Data set has no valid SOP Instance UID",
        "PS3.4 Table B.2-1",
    )
    NO_STUDY_INSTANCE_UID = (
        0xC004,
        Category.FAILURE,
        "Data set has no valid Study Instance UID",
        "PS3.4 Table B.2-1",
    )
    NO_SERIES_INSTANCE_UID = (
        0xC005,
        Category.FAILURE,
        "Data set has no valid Series Instance UID",
        "PS3.4 Table B.2-1",
    )
    HEADER_TOO_COMPLEX = (
        0xC006,
        Category.FAILURE,
        "Data set header is nested too deep or too long",
        "PS3.4 Table B.2-1",
    )
    CANNOT_INFLATE = (
        0xC007,
        Category.FAILURE,
        "Deflated data set cannot be inflated",
        "PS3.4 Table B.2-1",
    )

    def __init__(self, code: int, category: Category, comment: str, clause: str) -> None:
        self.code = code
        self.category = category
        self.comment = comment
        self.clause = clause

    def __str__(self) -> str:
        return f"{self.code:04X}H"
