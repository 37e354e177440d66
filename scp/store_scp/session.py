"""An admitted association: what it may send, what became of it, and the one line that says so."""

import time
from collections.abc import Sequence

import structlog

from contract.metadata import Sender
from contract.uids import uid_digest
from store_scp.board import Panel, Seat
from store_scp.dimse.services import StoreRequest
from store_scp.dimse.status import Status
from store_scp.errors import StoreRefused
from store_scp.instance import Route
from store_scp.logs import describe
from store_scp.metrics import Counter
from store_scp.negotiation import VERIFICATION, ContextResult, NegotiatedContext, negotiate
from store_scp.policy import AeEntry, Certificate
from store_scp.proposals import refused_contexts
from store_scp.sinks.sink import Kept
from store_scp.tls import certificate_members
from store_scp.transfer import Depot, Flow, Transfer
from store_scp.upper_layer import ProposedContext

_log = structlog.get_logger()

_REFUSED = {
    Status.OUT_OF_RESOURCES: Counter.INSTANCES_REFUSED_A700,
    Status.PROCESSING_FAILURE: Counter.INSTANCES_REFUSED_0110,
    Status.DATA_SET_MISMATCH: Counter.INSTANCES_REFUSED_A900,
    Status.INVALID_SOP_INSTANCE: Counter.INSTANCES_REFUSED_0117,
    Status.SOP_CLASS_NOT_SUPPORTED: Counter.INSTANCES_REFUSED_0122,
}
_KEPT = {Kept.NEW: Counter.INSTANCES_STORED, Kept.REPEATED: Counter.INSTANCES_DUPLICATE}


class Session:
    """One admitted association."""

    def __init__(
        self,
        sender: Sender,
        entry: AeEntry,
        depot: Depot,
        panel: Panel,
        seat: Seat,
        certificate: Certificate | None = None,
    ) -> None:
        self.sender = sender
        self.seat = seat
        self._certificate = certificate
        self._entry = entry
        self._route = Route(entry.batch_by == "study", entry.datastore_id, entry.urgent)
        self._depot = depot
        self._panel = panel
        self._began = time.monotonic()
        self._stored = 0
        self._refused = 0
        self._bytes = 0
        self._refused_contexts: list[str] = []
        # A sender's images mostly have one size: the next one's memory is taken at once.
        self._expected = 0

    def negotiate(self, proposed: Sequence[ProposedContext]) -> tuple[NegotiatedContext, ...]:
        """Answer the proposed presentation contexts, once.

        The association's line says which are refused; a warning of its own, where none is left to
        store on.
        """
        entry = self._entry
        answers = negotiate(
            proposed, entry.sop_classes, entry.transfer_syntaxes, entry.preferred_transfer_syntaxes
        )
        refused = refused_contexts(proposed, answers, entry)
        if refused and not any(map(_stores, answers)):
            _log.warning("nothing_to_store", refused_contexts=refused, **self._who())
        else:
            self._refused_contexts = refused
        return answers

    def begin(self, request: StoreRequest) -> Transfer:
        """Receive an instance; ``finish`` here or ``abandon`` there must follow."""
        return Transfer(request, self.sender, self._route, self._depot, self._expected)

    async def finish(self, transfer: Transfer, request: StoreRequest, flow: Flow) -> Status:
        """Store a received instance. Whatever goes wrong, there is a status to answer with."""
        self._panel.add(Counter.BYTES_RECEIVED, transfer.received)
        try:
            kept = await transfer.finish(flow)
        except StoreRefused as refused:
            return self._refuse(request, refused.status, refused.detail)
        except Exception as error:  # noqa: BLE001 - the peer is owed an answer, and never success
            return self._refuse(request, Status.PROCESSING_FAILURE, describe(error))
        self._stored += 1
        self._bytes += transfer.received
        self._expected = transfer.size
        self._panel.add(_KEPT[kept])
        self._panel.add(Counter.BYTES_STORED, transfer.received)
        return Status.SUCCESS

    def end(self, outcome: str, why: str | None) -> None:
        """The association is over: one line says how it went."""
        self._depot.sink.association_ended(self.sender.association_id)
        refused = self._refused_contexts
        _log.info(
            "association",
            **self._who(),
            stored=self._stored,
            refused=self._refused,
            bytes=self._bytes,
            seconds=round(time.monotonic() - self._began, 3),
            outcome=outcome,
            **({"why": why} if why else {}),
            **certificate_members(self._certificate),
            **({"refused_contexts": refused} if refused else {}),
        )

    def _who(self) -> dict[str, str]:
        return {
            "association_id": self.sender.association_id,
            "calling_ae": self.sender.calling_ae_title,
            "called_ae": self.sender.called_ae_title,
            "peer": self.sender.peer_address,
            "entry": self._entry.name,
        }

    def _refuse(self, request: StoreRequest, status: Status, why: str) -> Status:
        self._refused += 1
        self._panel.add(_REFUSED.get(status, Counter.INSTANCES_REFUSED_CXXX))
        _log.warning(
            "store_refused",
            association_id=self.sender.association_id,
            sop_instance=uid_digest(request.affected_sop_instance_uid),
            status=str(status),
            condition=status.comment,
            why=why,
        )
        return status


def _stores(answer: NegotiatedContext) -> bool:
    return answer.result is ContextResult.ACCEPTED and answer.abstract_syntax != VERIFICATION
