"""DIMSE on one association: requests in, services done, answers out (PS3.7 7, PS3.8 7).

No transport and no clock: it says through :class:`Line` when the peer has to be held up.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Protocol

from contract.uids import is_uid
from store_scp.board import Panel
from store_scp.dimse.commands import Command, CommandField, CommandInvalid, encode_response
from store_scp.dimse.messages import DataReceived, MessageEvent, MessageReader, MessageStarted
from store_scp.dimse.services import StoreRequest
from store_scp.dimse.status import Status
from store_scp.errors import AssociationRejected, StoreRefused
from store_scp.metrics import Counter, Gauge
from store_scp.negotiation import VERIFICATION, ContextResult, NegotiatedContext
from store_scp.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from store_scp.policy import Certificate
from store_scp.reception import Reception
from store_scp.spool import Spool
from store_scp.transfer import Transfer
from store_scp.turns import Turns
from store_scp.upper_layer import (
    AssociateRequest,
    Connection,
    DataFragment,
)
from store_scp.upper_layer.pdus import AbortReason, AbortSource, AnsweredContext
from store_scp.watch import Timeouts

if TYPE_CHECKING:
    from store_scp.session import Session

_IMPLEMENTATION = (IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME)


@dataclass(frozen=True, slots=True)
class Site:
    """What all associations of one worker share."""

    reception: Reception
    panel: Panel
    spool: Spool
    turns: Turns
    timeouts: Timeouts
    max_pdu_length: int
    max_operations: int
    # What outlives its association: stores whose peer has gone.
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def start(self, work: Coroutine[None, None, None]) -> None:
        """Run something that may outlive its association."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


class Hold(Enum):
    """Why nothing is read from a peer."""

    WINDOW = auto()  # it sends more operations at once than were negotiated
    BLOCK = auto()  # a part of a large instance is on its way into the sink
    HEADER = auto()  # a long header is walked, and its instance holds memory meanwhile
    MEMORY = auto()  # the spool is full
    WRITE = auto()  # the peer does not read our answers


class Line(Protocol):
    """The connection under a dialogue."""

    def hold(self, why: Hold) -> None:
        """Read nothing until it goes on."""
        ...

    def go_on(self, why: Hold) -> None:
        """This is no reason any more."""
        ...

    def answered(self) -> None:
        """Nothing that the peer waits for is left."""
        ...

    def send(self) -> None:
        """Send what the upper layer has to send."""
        ...


@dataclass(frozen=True, slots=True)
class Ending:
    """How an association ended: for its log line, and for the counters."""

    outcome: str
    counter: Counter
    why: str | None = None


RELEASED = Ending("released", Counter.ASSOCIATIONS_RELEASED)
PEER_ABORTED = Ending("aborted", Counter.ASSOCIATIONS_ABORTED, "the peer aborted")
CONNECTION_LOST = Ending("aborted", Counter.ASSOCIATIONS_ABORTED, "the connection was lost")


def failed(why: str) -> Ending:
    """The peer broke a rule or a deadline."""
    return Ending("aborted", Counter.ASSOCIATIONS_FAILED, why)


@dataclass(frozen=True, slots=True)
class _Operation:
    started: MessageStarted
    request: StoreRequest
    transfer: Transfer | None  # None: C-ECHO


class Dialogue:
    """One association's, from its request to its last answer."""

    def __init__(self, site: Site, connection: Connection, line: Line) -> None:
        self._site = site
        self._connection = connection
        self._line = line
        self.messages = MessageReader()
        self._session: Session | None = None
        self._admitted = False
        self._contexts: dict[int, NegotiatedContext] = {}
        self._window = 1
        self._arriving: _Operation | None = None
        # Begun and not answered; and those that a peer sent beyond its window, in order.
        self._operations = 0
        self._queued: deque[_Operation] = deque()
        self._long_headers = 0
        self._release_asked = False
        self._ending: Ending | None = None

    @property
    def busy(self) -> bool:
        """Whether the peer waits for an answer of ours."""
        return bool(self._operations or self._queued)

    @property
    def admitted(self) -> bool:
        """Whether there is an association, or was one."""
        return self._admitted

    @property
    def over(self) -> bool:
        """Whether the association has ended."""
        return self._ending is not None

    def admit(
        self, request: AssociateRequest, address: str, certificate: Certificate | None
    ) -> bool:
        """Answer an association request; whether it was accepted."""
        try:
            self._session = self._site.reception.enter(request, address, certificate)
        except AssociationRejected as rejected:
            self._connection.reject(rejected.result, rejected.source, rejected.reason)
            return False
        self._admitted = True
        results = self._session.negotiate(request.contexts)
        self._contexts = {
            each.context_id: each for each in results if each.result is ContextResult.ACCEPTED
        }
        operations = None
        if request.operations is not None:  # PS3.7 D.3.3.3; 0 stands for any number
            invoked = request.operations[0] or self._site.max_operations
            self._window = min(invoked, self._site.max_operations)
            operations = (self._window, 1)
        answers = [AnsweredContext(r.context_id, r.result, r.transfer_syntax) for r in results]
        self._connection.accept(answers, operations, _IMPLEMENTATION)
        return True

    def receive(self, fragment: DataFragment) -> None:
        """Take a piece of a message."""
        if self.over:
            return
        try:
            for event in self.messages.feed(fragment):
                self._take(event)
        except CommandInvalid as invalid:
            self.break_off(AbortReason.INVALID_PARAMETER, str(invalid))

    def ask_release(self) -> None:
        """The peer wants to go; it gets its answers first."""
        self._release_asked = True
        self._release_if_answered()

    def break_off(self, reason: AbortReason, why: str) -> None:
        """The peer broke a rule or a deadline: A-ABORT as the service provider."""
        self._connection.abort(AbortSource.SERVICE_PROVIDER, reason)
        self.end(failed(why))

    def end(self, ending: Ending) -> None:
        """The association is over; what is being stored is, the rest is forgotten."""
        if self.over:
            return
        self._ending = ending
        for each in (self._arriving, *self._queued):
            if each and each.transfer:
                self._site.start(each.transfer.abandon())
        self._arriving = None
        self._queued.clear()
        self._leave_if_answered()

    def refuse_arriving(self, refusal: StoreRefused) -> None:
        """Give up the instance that is arriving; its sender is told when it is complete."""
        if self._arriving and self._arriving.transfer:
            self._arriving.transfer.refuse(refusal)

    # What a transfer asks for.

    def hold_for_block(self) -> None:
        """Receive nothing until the block is durable."""
        self._line.hold(Hold.BLOCK)

    def go_on_after_block(self) -> None:
        """The block is durable."""
        self._line.go_on(Hold.BLOCK)

    def hold_for_header(self) -> None:
        """Receive nothing until a long header is walked."""
        self._long_headers += 1
        self._line.hold(Hold.HEADER)

    def go_on_after_header(self) -> None:
        """One is walked."""
        self._long_headers -= 1
        if not self._long_headers:
            self._line.go_on(Hold.HEADER)

    def hold_for_memory(self) -> None:
        """Receive nothing until there is memory."""
        self._line.hold(Hold.MEMORY)

    def _take(self, event: MessageEvent) -> None:
        if isinstance(event, MessageStarted):
            self._arriving = self._begin(event)
        elif self._arriving is None:  # ended while this fragment was dealt with
            return
        elif isinstance(event, DataReceived):
            if self._arriving.transfer:
                self._arriving.transfer.write(event.data, self)
        else:
            operation, self._arriving = self._arriving, None
            self._complete(operation)

    def _begin(self, started: MessageStarted) -> _Operation:
        context = self._contexts.get(started.context_id)
        if context is None or self._session is None:
            raise CommandInvalid("a message on a presentation context that was not accepted")
        if self._operations >= self._window:
            self._line.hold(Hold.WINDOW)
        request = StoreRequest(
            started.command.affected_sop_class_uid,
            started.command.affected_sop_instance_uid,
            context.abstract_syntax,
            context.transfer_syntax or "",
        )
        is_store = started.command.field is CommandField.C_STORE_RQ
        return _Operation(started, request, self._session.begin(request) if is_store else None)

    def _complete(self, operation: _Operation) -> None:
        self._queued.append(operation)
        self._advance()

    def _advance(self) -> None:
        """Perform what the window has room for."""
        while self._queued and self._operations < self._window:
            self._perform(self._queued.popleft())
        if not self._queued:
            self._line.go_on(Hold.WINDOW)
        self._release_if_answered()

    def _perform(self, operation: _Operation) -> None:
        if operation.transfer is None:
            self._site.panel.add(Counter.ECHOES)
            echo = operation.request.abstract_syntax == VERIFICATION
            self._answer(operation, Status.SUCCESS if echo else Status.SOP_CLASS_NOT_SUPPORTED)
            return
        self._operations += 1
        self._site.panel.adjust(Gauge.OPERATIONS_WAITING, 1)
        self._site.start(self._store(operation, operation.transfer))

    async def _store(self, operation: _Operation, transfer: Transfer) -> None:
        assert self._session is not None  # noqa: S101 - it stays while anything is unanswered
        status = await self._session.finish(transfer, operation.request, self)
        self._site.panel.adjust(Gauge.OPERATIONS_WAITING, -1)
        self._operations -= 1
        if not self.over:
            self._answer(operation, status)
            self._advance()
            if not self.busy:
                self._line.answered()
            self._line.send()
        self._leave_if_answered()

    def _answer(self, operation: _Operation, status: Status) -> None:
        response = _response(operation.started.command, status)
        self._connection.send_command(operation.started.context_id, response)

    def _release_if_answered(self) -> None:
        if self._release_asked and not self.busy and not self.over:
            self._connection.release()
            self.end(RELEASED)

    def _leave_if_answered(self) -> None:
        if self._ending and self._session and not self._operations:
            session, self._session = self._session, None
            ending = self._ending
            self._site.reception.leave(session, ending.outcome, ending.counter, ending.why)


def _response(command: Command, status: Status) -> bytes:
    sop_class, sop_instance = command.affected_sop_class_uid, command.affected_sop_instance_uid
    is_store = command.field is CommandField.C_STORE_RQ
    return encode_response(
        command,
        status,
        sop_class if is_uid(sop_class) else "",
        sop_instance if is_store and is_uid(sop_instance) else "",
    )
