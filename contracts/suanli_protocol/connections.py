"""One HTTP connection: its client has some seconds for the head of each request, or it gives its place to another."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from suanli_protocol.bodies import BODY_IS_HERE

HEAD_TIMEOUT_S = 15.0
HEAD_BYTES_MAX = 64 * 1024


class Connection(HttpToolsProtocol):
    """Closes when a head does not arrive in time. Without it, clients that say nothing would hold all places for ever.

    Bodies have their own timeout (the application's), and so has the silence between two requests (uvicorn).
    """

    _head_due: asyncio.TimerHandle | None = None
    _head_begun = False
    _head_bytes = 0  # of a head that is not whole yet
    _unanswered: tuple[RequestResponseCycle, ...] = ()  # in the order in which they came

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first head begins; what comes far above the limit is closed, so that files and the chain keep room."""
        super().connection_made(transport)
        limit = self.limit_concurrency
        if limit is not None and len(self.connections) > limit + max(1, limit // 4):  # up to here a request gets a 503
            transport.abort()
            return
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is expected any more, and no request gets an answer: uvicorn itself tells only the last one."""
        self._forget_head()
        for cycle in self._unanswered:
            cycle.disconnected = True
            cycle.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some bytes are here; a head that grows without an end is closed, it would fill the memory."""
        was_due = self._head_due
        super().data_received(data)
        if self._head_begun and self._head_due is None:  # most heads come whole: a timer costs as much as reading them
            self._expect_head()
        if self._head_due is None:
            self._head_bytes = 0
        elif was_due is not None:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self._forget_head()
                self.transport.abort()

    def on_message_begin(self) -> None:
        """The first byte of a head is here."""
        super().on_message_begin()
        self._head_begun = True

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._head_begun = False
        self._forget_head()
        super().on_headers_complete()
        if self.cycle is not None:
            open_ = (cycle for cycle in self._unanswered if not cycle.response_complete and cycle is not self.cycle)
            self._unanswered = (*open_, self.cycle)

    def on_message_complete(self) -> None:
        """The body is whole as well: whoever reads it need not wait."""
        self.scope[BODY_IS_HERE] = True  # type: ignore[literal-required]
        super().on_message_complete()

    def _expect_head(self) -> None:
        self._forget_head()
        self._head_due = self.loop.call_later(HEAD_TIMEOUT_S, self.transport.close)

    def _forget_head(self) -> None:
        if self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None
