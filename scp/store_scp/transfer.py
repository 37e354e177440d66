"""One instance while its data set arrives: held in memory up to a block, beyond it stored in parts.

Whatever is wrong with it is remembered and answered at its end, since the peer sends the data set
anyway: what follows a refusal is received and forgotten.
"""

import asyncio
from dataclasses import dataclass
from typing import Protocol

from contract.checksums import Checksum
from contract.header import Header, HeaderIncomplete, HeaderReader, HeaderUnreadable
from contract.metadata import Sender
from store_scp.crc import crc64
from store_scp.dimse.services import StoreRequest, check_command, check_header
from store_scp.dimse.status import Status
from store_scp.errors import StoreRefused
from store_scp.instance import Content, Instance, Route
from store_scp.logs import describe
from store_scp.part10 import file_meta, header_refused
from store_scp.sinks.sink import Kept, LargeObject, Sink, Stream
from store_scp.spool import BLOCK_BYTES, Buffer, Spool
from store_scp.turns import SLICE_ELEMENTS, Turns


class Flow(Protocol):
    """What a transfer asks of its association: to receive no more for a while."""

    def hold_for_block(self) -> None:
        """A block is on its way into the sink."""
        ...

    def go_on_after_block(self) -> None:
        """The block is durable."""
        ...

    def hold_for_header(self) -> None:
        """A long header is walked in several turns, while its instance holds memory."""
        ...

    def go_on_after_header(self) -> None:
        """The header is walked."""
        ...

    def hold_for_memory(self) -> None:
        """The spool is full."""
        ...


@dataclass(frozen=True, slots=True)
class Depot:
    """Where a worker's transfers take memory and time from, and where they take instances to."""

    spool: Spool
    turns: Turns
    sink: Sink
    max_instance_bytes: int


class Transfer:
    """One C-STORE request. ``finish`` or ``abandon`` must follow, or its memory is lost."""

    def __init__(
        self, request: StoreRequest, sender: Sender, route: Route, depot: Depot, expected: int
    ) -> None:
        """``expected``: how many bytes it may have; wrong is slower, not wrong."""
        self._request = request
        self._sender = sender
        self._route = route
        self._depot = depot
        self._refusal: StoreRefused | None = None
        self._header = HeaderReader(request.transfer_syntax_uid)
        self._buffer: Buffer | None = None
        self._filled = 0
        # Received while a block is on its way; at most what one read brings.
        self._overflow = bytearray()
        self._flush: asyncio.Task[None] | None = None
        self._object: LargeObject | None = None
        self._stream: Stream | None = None
        self._meta_bytes = 0
        self.received = 0
        try:
            check_command(request)
        except StoreRefused as refused:
            self._refusal = refused
            return
        meta = file_meta(
            request.affected_sop_class_uid,
            request.affected_sop_instance_uid,
            request.transfer_syntax_uid,
        )
        self._meta_bytes = self._filled = len(meta)
        self._buffer = depot.spool.take(0 if depot.sink.streams else expected)
        self._buffer.memory[: len(meta)] = meta

    @property
    def size(self) -> int:
        """The object's bytes so far."""
        return self._meta_bytes + self.received

    def write(self, data: memoryview, flow: Flow) -> None:
        """Take the next bytes of the data set."""
        self.received += len(data)
        if self.received > self._depot.max_instance_bytes:
            limit = self._depot.max_instance_bytes
            self.refuse(StoreRefused(Status.OUT_OF_RESOURCES, f"larger than {limit} bytes"))
        elif self._flush:
            self._overflow += data
        else:
            self._keep(data, flow)

    def refuse(self, refusal: StoreRefused) -> None:
        """Give the instance up; the rest of it is received and forgotten."""
        self._refusal = self._refusal or refusal
        if self._flush is None:
            self._give_back()

    async def finish(self, flow: Flow) -> Kept:
        """The data set is complete: return once it is durable. Raises StoreRefused."""
        try:
            if self._flush:
                await self._flush
            if self._refusal:
                raise self._refusal
            return await self._store(flow)
        finally:
            await self._end()

    async def abandon(self) -> None:
        """The data set will never be complete: leave nothing behind."""
        if self._flush:
            self._flush.cancel()
            await asyncio.wait([self._flush])
        await self._end()

    def _keep(self, data: memoryview, flow: Flow) -> None:
        while data and not self._refusal:
            if self._stream:
                self._append(self._stream, data)
                return
            data = data[self._fill(data) :]
            if not data or self._begin_stream():
                continue
            if self._held.size == BLOCK_BYTES:
                self._overflow += data
                flow.hold_for_block()
                self._flush = asyncio.get_running_loop().create_task(self._store_block(flow))
                return
            self._buffer = self._depot.spool.grow(self._held, self._filled)
            if self._depot.spool.full:
                flow.hold_for_memory()

    def _fill(self, data: memoryview) -> int:
        """Copy what fits into the buffer; how much that is."""
        memory, filled = self._held.memory, self._filled
        fits = min(len(data), len(memory) - filled)
        memory[filled : filled + fits] = data[:fits]
        self._filled += fits
        return fits

    def _begin_stream(self) -> bool:
        """Hand what is there to a sink that takes more as it comes, if the header is complete.

        Whether that is settled; if not, the header is longer, and a larger buffer will hold it.
        """
        if not self._depot.sink.streams:
            return False
        try:
            header = self._header.read(self._data_set(), SLICE_ELEMENTS)
            if header is None:
                return False
            self._stream_out(self._instance(header))
        except HeaderIncomplete:
            return False
        except HeaderUnreadable as error:
            self.refuse(header_refused(error))
        except StoreRefused as refused:
            self.refuse(refused)
        return True

    def _stream_out(self, instance: Instance) -> None:
        """Begin a stream with what is there; raises StoreRefused."""
        self._stream = self._depot.sink.stream(instance)
        self._stream.append(self._body())
        self._give_back()

    def _append(self, stream: Stream, data: memoryview) -> None:
        try:
            stream.append(data)
        except StoreRefused as refused:
            self.refuse(refused)

    async def _store_block(self, flow: Flow) -> None:
        try:
            if self._object is None:
                instance = await self._described(flow)
                if self._depot.sink.streams:
                    self._stream_out(instance)
                else:
                    self._object = await self._depot.sink.begin(instance)
            if self._object:
                await self._object.write(self._body())
        except StoreRefused as refused:
            self._refusal = self._refusal or refused
        except Exception as error:  # noqa: BLE001 - the peer is owed an answer, and never success
            self._refusal = StoreRefused(Status.PROCESSING_FAILURE, describe(error))
        finally:
            self._flush = None
        if self._refusal:
            self._give_back()
        self._filled = 0
        overflow, self._overflow = self._overflow, bytearray()
        self._keep(memoryview(overflow), flow)
        flow.go_on_after_block()

    async def _store(self, flow: Flow) -> Kept:
        if self._stream:
            return await self._stream.commit()
        if self._object:
            return await self._object.commit(self._body())
        instance = await self._described(flow)
        body = self._body()
        return await self._depot.sink.store(
            instance, Content(body, Checksum.crc64nvme(crc64(body)))
        )

    async def _described(self, flow: Flow) -> Instance:
        """The instance that the first block holds the header of; raises StoreRefused."""
        data_set = self._data_set()
        if not data_set:
            raise StoreRefused(Status.NO_DATA_SET)
        try:
            header = self._header.read(data_set, SLICE_ELEMENTS)
            if header is None:
                header = await self._long_header(data_set, flow)
        except HeaderUnreadable as error:
            raise header_refused(error) from None
        return self._instance(header)

    async def _long_header(self, data_set: memoryview, flow: Flow) -> Header:
        """Walk on, a slice a turn. The peer is held, or it would take memory for more of them."""
        flow.hold_for_header()
        try:
            while True:
                await self._depot.turns.next()
                header = self._header.read(data_set, SLICE_ELEMENTS)
                if header is not None:
                    return header
        finally:
            flow.go_on_after_header()

    def _instance(self, header: Header) -> Instance:
        check_header(self._request, header)
        return Instance(header, self._request.transfer_syntax_uid, self._sender, self._route)

    @property
    def _held(self) -> Buffer:
        assert self._buffer is not None  # noqa: S101 - but where it was refused, or is streamed
        return self._buffer

    def _body(self) -> memoryview:
        return self._held.memory[: self._filled]

    def _data_set(self) -> memoryview:
        return self._held.memory[self._meta_bytes : self._filled]

    async def _end(self) -> None:
        self._give_back()
        if self._object:
            await self._object.discard()
        if self._stream:
            self._stream.discard()

    def _give_back(self) -> None:
        buffer, self._buffer = self._buffer, None
        if buffer:
            self._depot.spool.give(buffer)
