"""The way of a command that nobody waits for to its aggregate, and of the answer back."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import time
from contextlib import aclosing
from typing import NamedTuple
from uuid import UUID

from actors.command_middleware import THE_STACK, Bus, CommandMiddleware, Sender
from actors.envelope import (
    Done,
    Envelope,
    check_keys,
    leading_stream_of,
    payload_of,
    streams_of,
)
from actors.errors import (
    AggregateDeleted,
    DecisionFailed,
    InvalidCommand,
    KeyReused,
    Overloaded,
    RevisionMismatch,
    StreamUnreadable,
)
from actors.host.receipts import revisions_in
from actors.processes.records import Accepted, Told
from eventstore.errors import StreamTombstoned
from eventstore.port import Log
from eventstore.records import Metadata, RawRecord
from rayfold import Refused, Registry
from rayfold.errors import MiddlewareFailed
from rayfold.process_instance import Sending
from rayfold.runtime.middleware_layers import DomainMiddleware
from rayfold.runtime.turns import Turn

log = logging.getLogger(__name__)

TIMEOUT = 10.0
"""Seconds for one attempt."""

LONGEST_PAUSE = 5.0
"""Seconds between two attempts; more where so many break on an author's code that they would be
sent more often than `BROKEN` a second together: a mended release begins with all of them at once.
"""

BROKEN = 50
"""Attempts a second at commands that break on the code of the domain."""

SENDING = 128
"""Commands that are on their way at a time; those between two attempts are not."""

SEARCHING = 2
"""Commands that are looked for in the whole log at a time: that holds up none that are sent."""

NOTHING_DONE = (Overloaded, StreamUnreadable, DecisionFailed)
"""Errors after which a command stands in no log."""

OF_AUTHORS = (StreamUnreadable, DecisionFailed, MiddlewareFailed)
"""Errors of the domain's code: sent again, a command most likely meets the same."""


class Refusal(NamedTuple):
    """Nothing came of a command, nor will."""

    rule: str
    detail: str


class Delivery:
    """Sends commands until each has an answer that will not change."""

    def __init__(self, registry: Registry, log: Log, bus: Bus) -> None:
        self._registry = registry
        self._log = log
        self._bus = bus
        self._middleware = DomainMiddleware(registry)
        self._around = CommandMiddleware.of(registry, bus, self._middleware)
        self._sending = asyncio.Semaphore(SENDING)
        self._searching = asyncio.Semaphore(SEARCHING)
        self.unanswered: dict[str, str] = {}
        """Why a command that is sent again had no answer the last time, by its id."""
        self._broken: set[str] = set()
        """Those of them that broke on an author's code the last time."""

    async def close(self) -> None:
        """Send nothing more."""
        await self._middleware.close()

    async def deliver(
        self,
        sending: Sending,
        *,
        principal: str,
        correlation_id: str,
        decided_at: int,
        sent: bool,
        trace: str = "",
        tenant: str = "",
    ) -> Accepted | Told:
        """Return what became of a process's command: it was accepted, or what it is to be told.

        `decided_at`, `sent`: see `answer`.
        """
        try:
            envelope = self._envelope(sending, principal, correlation_id, trace, tenant)
        except (InvalidCommand, DecisionFailed) as error:
            return _refused(sending, correlation_id, Refusal("invalid-command", str(error)))
        answer = await self.answer(envelope, decided_at, sent=sent)
        if isinstance(answer, Refusal):
            return _refused(sending, correlation_id, answer)
        return Accepted(sending.command_id, envelope.stream, answer.revision)

    async def answer(
        self,
        envelope: Envelope,
        decided_at: int,
        sender: Sender = THE_STACK,
        *,
        sent: bool = False,
    ) -> Done | Refusal:
        """Return the answer to a command that will not change.

        The domain's middleware is around each attempt; of one that breaks nothing is known to be
        final, so the command is sent again. One that refuses has not asked the aggregate, which
        knows what an attempt before it has done: then the log says so.

        `decided_at` is the position of the decision: behind it are its events, if there are any.
        Where it may have been `sent` before, by somebody or in vain, the log is asked first: an
        aggregate remembers its latest commands, and that may be too few.
        """
        try:
            return await self._answer(envelope, decided_at, sender, sent)
        finally:
            self.unanswered.pop(envelope.command_id, None)
            self._broken.discard(envelope.command_id)

    async def _answer(
        self, envelope: Envelope, decided_at: int, sender: Sender, sent: bool
    ) -> Done | Refusal:
        pause = 0.025
        refusal: Refusal | None = None  # unless the log says that it was done
        while True:
            try:
                if sent:
                    done = await self._found(envelope, decided_at)
                    if done is not None:
                        return done
                    if refusal is not None:
                        return refusal
                    sent = False
                return await self._attempt(envelope, sender)
            except Refused as refused:
                refusal = Refusal(refused.rule, refused.detail)
                if self._around is None or envelope.command_id not in self.unanswered:
                    return refusal
                sent = True
                continue
            except KeyReused as error:
                # The id is ours alone: it was written by an older version of the domain.
                refusal, decided_at, sent = Refusal("key-reused", str(error)), -1, True
                continue
            except RevisionMismatch as error:
                return Refusal("revision-mismatch", str(error))
            except AggregateDeleted as error:
                return Refusal("aggregate-deleted", str(error))
            except InvalidCommand as error:
                return Refusal("invalid-command", str(error))
            except Exception as error:  # no answer, or one that may change: it is sent again
                self._note(envelope, error)
                # After any other the log may have it: a middleware may have met a lost answer.
                sent = sent or not isinstance(error, NOTHING_DONE)
                of_authors = isinstance(error, OF_AUTHORS)
            longest = max(LONGEST_PAUSE, len(self._broken) / BROKEN if of_authors else 0)
            pause = min(pause * 2, longest)
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))

    async def _attempt(self, envelope: Envelope, sender: Sender) -> Done:
        async with self._sending:
            attempt = envelope._replace(deadline=time.monotonic() + TIMEOUT)
            if self._around is None:
                self._check(attempt)
                receipt = await self._bus.send(attempt)
            else:
                receipt = await self._around.send(attempt, sender)
        return Done(receipt.revision, receipt.position, {**receipt.revisions} or None)

    def _note(self, envelope: Envelope, error: Exception) -> None:
        """Keep why a command has no answer; log it where that is another reason than before."""
        command_id, reason = envelope.command_id, str(error)
        news = self.unanswered.get(command_id) != reason
        self.unanswered[command_id] = reason
        if isinstance(error, OF_AUTHORS):
            self._broken.add(command_id)
        else:
            self._broken.discard(command_id)
        if news and not isinstance(error, Overloaded):
            log.warning(
                "a command has no answer, and is sent again",
                extra={
                    "command": envelope.command,
                    "stream": envelope.stream,
                    "command_id": command_id,
                    "error": reason,
                },
            )

    def _check(self, envelope: Envelope) -> None:
        """Refuse what nobody will ever read: a writer that cannot may be of another release."""
        definition = self._registry.commands.get(envelope.command)
        try:
            if definition is not None:
                definition.decode(envelope.payload)
        except ValueError as error:  # it was kept by another release, say
            raise InvalidCommand(f"{envelope.command} does not fit: {error}") from error

    def _envelope(
        self, sending: Sending, principal: str, correlation_id: str, trace: str, tenant: str
    ) -> Envelope:
        command = sending.command
        definition = type(command).__rayfold__
        if type(command) not in self._registry.owner:
            raise InvalidCommand(f"no aggregate takes {definition.name!r}")
        check_keys(self._registry.keyed_by.get(type(command), ()), command)
        given = command.model_dump_json(exclude=set(definition.personal)).encode()
        # Of what the process decided, the clock included: sent again, it is the same.
        fingerprint = hashlib.blake2b(definition.name.encode() + given, digest_size=16)
        return Envelope(
            definition.name,
            leading_stream_of(self._registry, command, tenant),
            payload_of(command, tenant),
            str(sending.command_id),
            fingerprint.hexdigest(),
            principal=principal,
            correlation_id=correlation_id,
            causation_id=str(sending.cause or sending.command_id),
            traceparent=trace,
            tenant=tenant,
        )

    async def _found(self, envelope: Envelope, decided_at: int) -> Done | None:
        try:
            streams = streams_of(self._registry, envelope)
        except (ValueError, InvalidCommand, DecisionFailed):
            streams = []
        if not streams or envelope.command not in self._registry.commands:
            # Of another release: which streams a decision of it wrote to, nobody can tell any more.
            async with self._searching:
                return await self._found_anywhere(envelope, decided_at)
        async with self._sending:
            for stream in streams:
                if found := await self._found_in(stream, envelope, decided_at):
                    return found
        return None

    async def _found_anywhere(self, envelope: Envelope, decided_at: int) -> Done | None:
        after = decided_at if decided_at >= 0 else None
        turn = Turn()
        async with aclosing(self._log.read_all(self._registry.prefixes, after=after)) as records:
            async for raw in records:
                await turn.pass_on()
                if found := _done_by(raw, envelope):
                    return found
        return None

    async def _found_in(self, stream: str, envelope: Envelope, decided_at: int) -> Done | None:
        try:
            async with aclosing(self._log.read_stream(stream, backwards=True)) as records:
                async for raw in records:
                    if raw.position <= decided_at:
                        return None
                    if found := _done_by(raw, envelope):
                        return found
        except StreamTombstoned:
            return None
        return None


def _done_by(raw: RawRecord, envelope: Envelope) -> Done | None:
    """Return where a command stands in the log, if the record came of it."""
    metadata = Metadata(raw.metadata)
    if metadata.get("commandId") != envelope.command_id:
        return None
    if revisions := revisions_in(metadata):
        return Done(revisions.get(envelope.stream, raw.revision), raw.position, revisions)
    return Done(raw.revision, raw.position)


def _refused(sending: Sending, correlation_id: str, refusal: Refusal) -> Told:
    return Told(
        f"rejected:{sending.command_id}",
        command_id=str(sending.command_id),
        rule=refusal.rule,
        detail=refusal.detail,
        correlation_id=correlation_id,
    )


def command_id_of(metadata: Metadata) -> str:
    """Return the command that an event came of, if its metadata has one of ours."""
    found = metadata.get("commandId", "")
    try:
        return str(UUID(found))
    except ValueError:
        return ""
