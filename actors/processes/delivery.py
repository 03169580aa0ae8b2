"""Delivering a command for which no client waits, and its answer."""

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
"""Seconds that one attempt may take."""

LONGEST_PAUSE = 5.0
"""The longest pause between two attempts, in seconds. It is longer if so many commands fail on
domain code that they would be sent more than `BROKEN` times a second together: a corrected release
starts with all of them at once.
"""

BROKEN = 50
"""The most attempts per second at commands that fail on the domain's code."""

SENDING = 128
"""Commands in progress at a time, not counting those between two attempts."""

SEARCHING = 2
"""Commands that are searched for in the whole log at a time, without delaying those that are
sent.
"""

NOTHING_DONE = (Overloaded, StreamUnreadable, DecisionFailed)
"""Errors after which a command is certainly not on the log."""

OF_AUTHORS = (StreamUnreadable, DecisionFailed, MiddlewareFailed)
"""Errors of the domain's code: another attempt will most likely fail in the same way."""


class Refusal(NamedTuple):
    """A command had no effect, and never will."""

    rule: str
    detail: str


class Delivery:
    """Sends each command until it has a final answer."""

    def __init__(self, registry: Registry, log: Log, bus: Bus) -> None:
        self._registry = registry
        self._log = log
        self._bus = bus
        self._middleware = DomainMiddleware(registry)
        self._around = CommandMiddleware.of(registry, bus, self._middleware)
        self._sending = asyncio.Semaphore(SENDING)
        self._searching = asyncio.Semaphore(SEARCHING)
        self.unanswered: dict[str, str] = {}
        """By command id: why the last attempt got no answer."""
        self._broken: set[str] = set()
        """The commands whose last attempt failed on the domain's code."""

    async def close(self) -> None:
        """Stop sending."""
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
        """Return a process's command's outcome: accepted, or the message for the process.

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
        """Return the final answer to a command.

        Each attempt passes the domain's middleware. If that fails, no answer is final, so the
        command is sent again. If it refuses, the aggregate was not asked, which may know of an
        earlier attempt: then the log is searched.

        `decided_at` is the position of the process's decision: any events of the command come after
        it. If the command may have been `sent` before, the log is searched first: an aggregate
        remembers only its latest commands, which may be too few.
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
        refusal: Refusal | None = None  # unless the log shows that it was done
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
                # Nobody else uses this id: an older version of the domain wrote the event.
                refusal, decided_at, sent = Refusal("key-reused", str(error)), -1, True
                continue
            except RevisionMismatch as error:
                return Refusal("revision-mismatch", str(error))
            except AggregateDeleted as error:
                return Refusal("aggregate-deleted", str(error))
            except InvalidCommand as error:
                return Refusal("invalid-command", str(error))
            except Exception as error:  # no answer, or one that is not final: it is sent again
                self._note(envelope, error)
                # After other errors the events may be on the log: middleware may have missed the
                # answer.
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
        """Record why a command has no answer; log the reason if it has changed."""
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
        """Refuse a command that cannot be read here; a writer may run another release."""
        definition = self._registry.commands.get(envelope.command)
        try:
            if definition is not None:
                definition.decode(envelope.payload)
        except ValueError as error:  # it was stored by another release, for example
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
        # It covers the values that the process set, including times: a repeat has the same.
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
            # From another release: the streams that its decision wrote to are unknown.
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
    """Return the receipt of a command if this record is one of its events."""
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
    """Return the id of the command that caused an event, if its metadata has one of ours."""
    found = metadata.get("commandId", "")
    try:
        return str(UUID(found))
    except ValueError:
        return ""
