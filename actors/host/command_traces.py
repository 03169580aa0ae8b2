"""The spans of a host: a command from arrival to outcome, and the append that it waits for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from actors.envelope import Done, Envelope, Outcome
from actors.errors import NeedsOwnActor
from actors.host.plan import PendingCommand
from rayfold import Refused
from rayfold.runtime.tracing import Span, Tracing, is_sampled


class Planned(Protocol):
    """A plan for one aggregate or for several."""

    @property
    def commands(self) -> Sequence[PendingCommand]:
        """The commands of the plan."""
        ...


class CommandTraces:
    """Spans for traced commands, which are few; untraced ones cost nothing."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    def begin(self, envelope: Envelope) -> tuple[Envelope, Span | None]:
        """Start a command's span; return it, and an envelope whose events will belong to it."""
        if not is_sampled(envelope.traceparent):
            return envelope, None
        about = {
            "rayfold.command": envelope.command,
            "rayfold.command_id": envelope.command_id,
            "rayfold.correlation_id": envelope.correlation_id or envelope.command_id,
            "rayfold.stream": envelope.stream,
            "rayfold.principal": envelope.principal,
        }
        name = f"handle {envelope.command}"
        span = self._tracing.begin(name, envelope.traceparent, kind="server", attributes=about)
        return envelope._replace(traceparent=span.traceparent), span

    def appending(self, plans: Iterable[Planned]) -> list[Span]:
        """Start the spans of a group commit: one in each trace that it includes."""
        commands = [each for planned in plans for each in planned.commands]
        about = {"rayfold.commit.commands": len(commands)}
        return [
            self._tracing.begin("append", each.span.traceparent, kind="client", attributes=about)
            for each in commands
            if each.span is not None
        ]


def end(span: Span, outcome: Outcome) -> None:
    """End a command's span with its outcome; a refusal or a redirection is no error."""
    if isinstance(outcome, Done):
        span.set("rayfold.revision", outcome.revision)
        span.set("rayfold.position", outcome.position)
        span.end()
    elif isinstance(outcome, Refused):
        span.set("rayfold.rejected", outcome.rule)
        span.end()
    elif isinstance(outcome, NeedsOwnActor):
        span.end()
    else:
        span.end(outcome)
