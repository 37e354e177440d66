"""What a peer proposed, by the names of PS3.6, and why a context of it is refused.

For the log: what a peer wrote is looked up and never repeated.
"""

from collections.abc import Iterable, Iterator

from contract.uids import is_uid
from store_scp.negotiation import ContextResult, NegotiatedContext, is_storage, registered
from store_scp.policy import AeEntry
from store_scp.upper_layer import ProposedContext
from store_scp.wording import first_of

_EXAMPLE = "Explicit VR Little Endian"


def proposed_names(contexts: Iterable[ProposedContext]) -> list[str]:
    """A request's abstract syntaxes by name: the first few, and a count of the rest."""
    different = dict.fromkeys(each.abstract_syntax for each in contexts)
    return first_of(_name(each, "SOP class") for each in different)


def refused_contexts(
    proposed: Iterable[ProposedContext], answers: Iterable[NegotiatedContext], entry: AeEntry
) -> list[str]:
    """Each refused context's name, why it is refused, and what would have been accepted.

    The first few of those that differ, and a count of the rest. ``answers`` are to ``proposed``, in
    its order; ``entry`` is the peer's.
    """
    return first_of(_refused(proposed, answers, entry))


def _refused(
    proposed: Iterable[ProposedContext], answers: Iterable[NegotiatedContext], entry: AeEntry
) -> Iterator[str]:
    different = dict.fromkeys(
        (context.abstract_syntax, answer.result, context.transfer_syntaxes)
        for context, answer in zip(proposed, answers, strict=True)
        if answer.result is not ContextResult.ACCEPTED
    )
    for sop_class, result, transfer_syntaxes in different:
        why = (
            _why_no_transfer_syntax(transfer_syntaxes, entry)
            if result is ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED
            else _why_no_sop_class(sop_class)
        )
        yield f"{_name(sop_class, 'SOP class')}: {why}"


def _why_no_sop_class(uid: str) -> str:
    if is_uid(uid) and is_storage(uid):
        return (
            "not among the accepted SOP classes; needs to be in the entry's sop_classes, or in"
            " SUPPORTED_SOP_CLASS_UIDS if the entry has none"
        )
    return "this receiver stores and verifies only"


def _why_no_transfer_syntax(proposed: Iterable[str], entry: AeEntry) -> str:
    names = first_of(_name(each, "transfer syntax") for each in proposed)
    accepted = first_of(_name(each, "transfer syntax") for each in sorted(entry.transfer_syntaxes))
    needs = (
        f"one of the entry's transfer_syntaxes: {', '.join(accepted)}"
        if accepted
        else f"one that carries the whole image, such as {_EXAMPLE}"
    )
    if not names:
        return f"no transfer syntax is proposed; needs {needs}"
    return f"none of its transfer syntaxes is accepted ({', '.join(names)}); needs {needs}"


def _name(uid: str, kind: str) -> str:
    """PS3.6's name, or what kind of UID it is."""
    if not is_uid(uid):
        return "text that is no UID"
    known = registered(uid)
    if known.is_private:
        return f"a private {kind}"
    return "an unknown UID" if known.name in ("", uid) else str(known.name)
