"""The policy file: TOML or JSON from the operator, checked as a whole before any of it holds.

docs/access.md explains every key. An empty list is refused: a template filled in with nothing must
not come to mean every peer.
"""

import json
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal

import pydicom.uid
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import ErrorDetails

from contract.uids import is_uid
from store_scp.errors import PolicyInvalid
from store_scp.files import Read, read_file
from store_scp.negotiation import accepts_transfer_syntax, is_storage
from store_scp.policy import AccessPolicy, AeEntry, alternative_name
from store_scp.settings import AeTitle, Network, Settings

# Both bound what a wrong path or a runaway template can cost. Every association tries the entries
# one by one: 1,000 take about a millisecond, and 256 bytes each.
_MAX_ENTRIES = 1_000
_MAX_FILE_BYTES = 262_144

_SHOWN_CHARACTERS = 80
_LONGEST_INTEGER_BITS = 64

_PAIR = r'(?:[A-Za-z][A-Za-z0-9-]*|[0-9]+(?:\.[0-9]+)*)=(?! )(?:[^,+"\\<>;]|\\.)*'
_DISTINGUISHED_NAME = re.compile(rf"{_PAIR}(?:[,+]{_PAIR})*", re.DOTALL)


def load_policy(path: Path, settings: Settings, read: Read = read_file) -> AccessPolicy:
    """The file's policy; raises PolicyInvalid, which names every bad key.

    What an entry leaves out is as ``settings`` have it. ``read`` gives the file's bytes.
    """
    try:
        document = _document(path, read)
        file = _File.model_validate(
            document, context=_Context(mutual_tls=settings.tls_client_ca is not None)
        )
    except ValidationError as error:
        lines = [_readable(each, document) for each in error.errors(include_url=False)]
        raise _invalid(path, lines) from None
    return AccessPolicy(tuple(_entry(each, settings) for each in file.ae))


@dataclass(slots=True)
class _Context:
    """What an entry is checked against beside itself."""

    mutual_tls: bool
    names: set[str] = field(default_factory=set)


def _listed(value: object) -> object:
    """A single text where a list may stand."""
    if value == []:
        raise ValueError("is empty; a key that narrows nothing is left out")
    return [value] if isinstance(value, str) else value


def _bounded(value: object) -> object:
    if isinstance(value, list) and not 1 <= len(value) <= _MAX_ENTRIES:
        raise ValueError(f"must have 1 to {_MAX_ENTRIES} entries, not {len(value)}")
    return value


def _uid(text: str) -> str:
    """A UID, or the one PS3.6 gives a keyword to (those of retired classes are not known)."""
    known = getattr(pydicom.uid, text, None)
    if isinstance(known, pydicom.uid.UID) and known.keyword == text:
        return str(known)
    if not is_uid(text):
        raise ValueError("is neither a UID nor the keyword of one")
    return text


def _sop_class(text: str) -> str:
    uid = _uid(text)
    if not is_storage(uid):
        raise ValueError("is not a storage SOP class")
    return uid


def _transfer_syntax(text: str) -> str:
    uid = _uid(text)
    if not accepts_transfer_syntax(uid):
        raise ValueError("is not a transfer syntax the receiver accepts")
    return uid


def _network(value: object) -> Network:
    try:
        network = ip_network(value if isinstance(value, str) else "")
    except ValueError:
        raise ValueError("is not a CIDR network, or has bits behind its prefix") from None
    if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped:
        raise ValueError("must be written as the IPv4 network it is")
    return network


def _subject(text: str) -> str:
    if not _DISTINGUISHED_NAME.fullmatch(text):
        raise ValueError("is not a subject in RFC 4514's form, such as CN=ct1,O=Hospital")
    return text


_LISTED = BeforeValidator(_listed)


class _Entry(BaseModel):
    """One ``[[ae]]`` of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9-]{1,32}$")
    called: Annotated[frozenset[AeTitle], _LISTED] = frozenset()
    calling: Annotated[frozenset[AeTitle], _LISTED] = frozenset()
    cidr: Annotated[tuple[Annotated[Network, BeforeValidator(_network)], ...], _LISTED] = ()
    tls_subject: Annotated[frozenset[Annotated[str, AfterValidator(_subject)]], _LISTED] = (
        frozenset()
    )
    tls_san: Annotated[
        frozenset[
            Annotated[str, Field(min_length=1, max_length=255), AfterValidator(alternative_name)]
        ],
        _LISTED,
    ] = frozenset()
    sop_classes: Annotated[frozenset[Annotated[str, AfterValidator(_sop_class)]], _LISTED] = (
        frozenset()
    )
    transfer_syntaxes: Annotated[
        frozenset[Annotated[str, AfterValidator(_transfer_syntax)]], _LISTED
    ] = frozenset()
    preferred_transfer_syntaxes: Annotated[
        tuple[Annotated[str, AfterValidator(_transfer_syntax)], ...], _LISTED
    ] = ()
    max_associations: int | None = Field(None, ge=1, le=10_000, strict=True)
    batch: Literal["study", "mixed"] | None = None
    datastore_id: str | None = Field(None, pattern=r"^[0-9a-z]{32}$")
    urgent: bool = Field(False, strict=True)

    @field_validator("name")
    @classmethod
    def _check_unique(cls, name: str, info: ValidationInfo[_Context]) -> str:
        if name in info.context.names:
            raise ValueError("is the name of an earlier entry, too")
        info.context.names.add(name)
        return name

    @field_validator("tls_subject", "tls_san")
    @classmethod
    def _check_mutual(cls, names: frozenset[str], info: ValidationInfo[_Context]) -> frozenset[str]:
        if not info.context.mutual_tls:
            raise ValueError("needs SCP_TLS_CLIENT_CA: without it, no peer shows a certificate")
        return names

    @field_validator("preferred_transfer_syntaxes")
    @classmethod
    def _check_accepted(
        cls, preferred: tuple[str, ...], info: ValidationInfo[_Context]
    ) -> tuple[str, ...]:
        accepted = info.data.get("transfer_syntaxes")
        if accepted and not accepted.issuperset(preferred):
            raise ValueError("names one that the entry's transfer_syntaxes leaves out")
        return preferred


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    ae: Annotated[tuple[_Entry, ...], BeforeValidator(_bounded)]


def _entry(given: _Entry, settings: Settings) -> AeEntry:
    return AeEntry(
        name=given.name,
        called=given.called,
        calling=given.calling,
        networks=given.cidr,
        subjects=given.tls_subject,
        subject_names=given.tls_san,
        sop_classes=given.sop_classes or frozenset(settings.supported_sop_class_uids),
        transfer_syntaxes=given.transfer_syntaxes,
        preferred_transfer_syntaxes=given.preferred_transfer_syntaxes
        or settings.preferred_transfer_syntax_uids,
        max_associations=given.max_associations,
        batch_by=given.batch or settings.batch_by,
        datastore_id=given.datastore_id,
        urgent=given.urgent,
    )


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object; of two keys of one name, json would silently drop the first."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has a key twice")
    return found


def _json(text: str) -> object:
    return json.loads(text, object_pairs_hook=_unique_keys)


_PARSERS: dict[str, Callable[[str], object]] = {".toml": tomllib.loads, ".json": _json}


def _document(path: Path, read: Read) -> object:
    parse = _PARSERS.get(path.suffix)
    if parse is None:
        raise _invalid(path, ["its name must end in .toml or .json"])
    try:
        content = read(path)
    except OSError as error:
        raise _invalid(path, [f"it cannot be read: {error.strerror}"]) from None
    if len(content) > _MAX_FILE_BYTES:
        raise _invalid(path, [f"it has more than {_MAX_FILE_BYTES} bytes"])
    try:
        return parse(content.decode())
    except (ValueError, RecursionError) as error:
        raise _invalid(path, [f"it cannot be parsed: {error!s:.200}"]) from None


def _invalid(path: Path, lines: list[str]) -> PolicyInvalid:
    return PolicyInvalid("\n  ".join([f"The policy file {path} cannot be used:", *lines]))


_RULES = {
    "missing": "is required",
    "extra_forbidden": "is not a key of a policy file",
}


def _readable(error: ErrorDetails, document: object) -> str:
    """One broken rule: entry, key, value and rule."""
    rule = _RULES.get(error["type"], error["msg"].removeprefix("Value error, "))
    where = "".join(f"{part}: " for part in _place(error["loc"], document))
    value = "" if error["type"] == "missing" else f"{_shown(error['input'])}: "
    return f"{where}{value}{rule[:1].lower()}{rule[1:]}"


def _place(loc: tuple[int | str, ...], document: object) -> list[str]:
    """Entry and key. Which item of a list is bad, its value says."""
    match loc, document:
        case ("ae", int(index), *keys), {"ae": list(entries)}:
            name = entries[index].get("name") if isinstance(entries[index], dict) else None
            entry = f"entry {index + 1}" + (f" ({_shown(name)})" if name is not None else "")
            return [entry, *(_shown_key(key) for key in keys[:1])]
        case _:
            return [_shown_key(key) for key in loc]


def _shown_key(key: int | str) -> str:
    return str(key) if str(key).isidentifier() else _shown(key)


def _shown(value: object) -> str:
    match value:
        case int() if value.bit_length() > _LONGEST_INTEGER_BITS:  # Python refuses to print some
            return "an integer beyond 64 bits"
        case str() | int() | float():
            return f"{value!r:.{_SHOWN_CHARACTERS}}"
        case _:
            return f"a {type(value).__name__}"
