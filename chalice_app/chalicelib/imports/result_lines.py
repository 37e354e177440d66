"""Reading one result file: its text, its lines, and the object each line speaks of. Pure functions.

The files' layout is documented, their details vary: Python's ``True`` beside JSON's ``true``, an
``inputFile`` that is a key in one example and could be a URI, a file that is written still. So they
are read leniently, line by line, and what was not understood is counted.
https://docs.aws.amazon.com/healthimaging/latest/devguide/understanding-import-jobs.html
"""

import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeGuard, TypeVar
from urllib.parse import unquote

from chalicelib.errors import ObjectTooLarge, ResultsNotReady, ResultsNotUnderstood
from contract.errors import InvalidKey
from contract.keys import INSTANCES_PREFIX, parse_batch_id
from contract.manifest import Manifest

T = TypeVar("T")

# 5,000 lines of at most some KB; far below a Lambda's memory. Compressed or not.
MAX_RESULT_BYTES = 64 * 1024 * 1024
# The longest lines seen are below 1 KB; one with every warning there is stays below 8 KB.
MAX_LINE_BYTES = 65_536

_GZIP = b"\x1f\x8b"  # RFC 1952, section 2.3.1
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# The closing quote is optional, so that text without one is read once and not once per quote.
_PYTHON_WORD = re.compile(r'"(?:[^"\\]|\\.)*"?|\b(?:True|False|None)\b')
_AS_JSON = {"True": "true", "False": "false", "None": "null"}
_WHOLE_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)
_URL_SCHEMES = ("https://", "http://")
_LEADING = re.compile(r"\A(?:\.?/)+")  # "/" and "./"
# "", "https:", "", host, bucket: the longest address before a key, with some slashes to spare.
_MAX_ADDRESS_PARTS = 8


@dataclass(frozen=True, slots=True)
class BatchNames:
    """Every form in which a line may name an object of one batch."""

    prefix: str
    keys: Set[str]

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """Those of the manifest's batch."""
        return cls(manifest.prefix, {each.key for each in manifest.instances})

    def key(self, input_file: str) -> str | None:
        """The key under the batch's prefix that ``input_file`` means, listed or not, or None.

        The examples show keys. An s3:// URI, an https URL, an ARN, or a bucket and a key end in
        one. A name relative to ``instances/`` begins with the batch's id. A name relative to the
        batch's prefix could be anybody's, so only a listed one counts.
        """
        if input_file.lower().startswith(_URL_SCHEMES):
            input_file = unquote(input_file.partition("?")[0])
        address, found, rest = f"/{input_file}".partition(f"/{self.prefix}")
        if found:
            return f"{self.prefix}{rest}" if _is_address(address) else None
        relative = _LEADING.sub("", input_file)
        if f"{INSTANCES_PREFIX}{relative}".startswith(self.prefix):
            return f"{INSTANCES_PREFIX}{relative}"
        key = f"{self.prefix}{relative}"
        return key if key in self.keys else None


@dataclass(frozen=True, slots=True)
class ResultLines(Generic[T]):
    """What one result file says. Blank lines are no lines.

    ``said`` holds what was made of each line by the key under the batch's prefix that it names,
    ``strangers`` are the other names. ``nameless`` counts the complete lines without a readable
    name: they will never get better. ``cut_off``: the last line is not complete and not readable.
    """

    file: str
    said: Mapping[str, Sequence[T]]
    strangers: Set[str]
    nameless: int
    cut_off: bool
    count: int

    @property
    def names(self) -> Set[str]:
        """Each file that the lines name, once."""
        return self.said.keys() | self.strangers

    @property
    def held(self) -> int:
        """How many lines are there; one that is cut off is not there yet."""
        return self.count - self.cut_off

    def require_understood(self) -> None:
        """Raise ResultsNotUnderstood if there are lines, and none names an object of the batch."""
        if self.count and not self.said:
            raise ResultsNotUnderstood(
                f"no line of {self.file} (of {self.count}) names an object of the batch"
            )


def read_lines(
    file: str, body: bytes, names: BatchNames, tell: Callable[[Mapping[str, Any]], T]
) -> ResultLines[T]:
    """Read a result file; ``tell`` makes of a line's members what is remembered of them.

    Raises the errors of ``unpacked``.
    """
    said: dict[str, list[T]] = {}
    strangers: set[str] = set()
    count, nameless, cut_off = 0, 0, False
    for line in io.BytesIO(unpacked(file, body)):
        text = line.strip()
        if not text:
            continue
        count += 1
        document = read_object(text) if len(text) <= MAX_LINE_BYTES else None
        input_file = document.get("inputFile") if document else None
        if document is None and not line.endswith(b"\n"):
            cut_off = True
        elif document is None or not is_text(input_file):
            nameless += 1
        elif (key := names.key(input_file)) is None:
            strangers.add(input_file)
        else:
            said.setdefault(key, []).append(tell(document))
    return ResultLines(file, said, strangers, nameless, cut_off, count)


def unpacked(file: str, body: bytes) -> bytes:
    """``body`` without compression and byte order mark.

    Raises ResultsNotReady for a compressed body that is cut off, ResultsNotUnderstood for a damaged
    one, and ObjectTooLarge for one that holds more than a result file may have.
    """
    if body.startswith(_GZIP):
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(body)) as compressed:
                body = compressed.read(MAX_RESULT_BYTES + 1)
        except EOFError:
            raise ResultsNotReady(f"{file} is compressed, and not all there yet") from None
        except (OSError, zlib.error):
            raise ResultsNotUnderstood(f"{file} is compressed, and damaged") from None
        if len(body) > MAX_RESULT_BYTES:
            raise ObjectTooLarge(f"{file} holds more than {MAX_RESULT_BYTES} bytes")
    return body.removeprefix(_BYTE_ORDER_MARK)


def read_object(text: bytes) -> dict[str, Any] | None:
    """A JSON object, with Python's constants forgiven, or None."""
    try:
        lenient = _PYTHON_WORD.sub(lambda word: _AS_JSON.get(word[0], word[0]), text.decode())
        document = json.loads(lenient)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def is_text(value: object) -> TypeGuard[str]:
    """Whether ``value`` is a text that says something."""
    return isinstance(value, str) and value != ""


def whole_number(value: object) -> int | None:
    """``value`` as a whole number from 0 on: 5, 5.0 or "5"; None for anything else."""
    if isinstance(value, str):
        return int(value) if _WHOLE_NUMBER.fullmatch(value) else None
    if isinstance(value, float):
        return int(value) if value.is_integer() and value >= 0 else None
    return value if type(value) is int and value >= 0 else None


def truth(value: object) -> bool | None:
    """``value`` as true or false: a boolean, or the word in any case; None for anything else."""
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.strip().lower())
    return value if isinstance(value, bool) else None


def _is_address(text: str) -> bool:
    """Whether ``text`` may stand before a key: a scheme, a host, a bucket; no other batch's id."""
    parts = text.split("/")
    return len(parts) <= _MAX_ADDRESS_PARTS and not any(map(_is_batch_id, parts))


def _is_batch_id(text: str) -> bool:
    try:
        parse_batch_id(text)
    except InvalidKey:
        return False
    return True
