"""Errors that a domain raises, or that loading a domain raises."""

from __future__ import annotations


class RayfoldError(Exception):
    """The root of every error that Rayfold raises on purpose."""


class DomainError(RayfoldError):
    """A package is not a valid domain.

    `mistakes` has one sentence for each mistake; the error's message is all of them.
    """

    def __init__(self, *mistakes: str) -> None:
        super().__init__(*mistakes)
        self.mistakes = mistakes

    def __str__(self) -> str:
        return "\n".join(self.mistakes)


class Refused(RayfoldError):
    """The root of the errors that a decision can raise: nothing was appended or changed.

    `rule` and `detail` are text, which goes to clients and onto the log. An unpaired surrogate,
    which is not a character, becomes a question mark.

    Raises:
        TypeError: `rule` or `detail` is not text.
    """

    def __init__(self, rule: str, detail: str) -> None:
        for each in (rule, detail):
            if not isinstance(each, str):
                name = type(self).__name__
                told = f'{name} takes a rule and a sentence, as in {name}("full", "no place left")'
                raise TypeError(f"{told}: {each!r} is not text")
        self.rule = _writable(rule)
        self.detail = _writable(detail)
        super().__init__(self.rule, self.detail)

    def __str__(self) -> str:
        return self.detail


def _writable(text: str) -> str:
    return text if text.isascii() else text.encode(errors="replace").decode()


class Rejected(Refused):
    """A business rule forbids the command.

    `rule` is a stable, kebab-cased code that clients may branch on; `detail` is a
    sentence for people. The same command may be accepted later, in another state.
    """


class NotFound(Refused):
    """The command needs an aggregate that has no events yet."""


class Forbidden(Refused):
    """The client lacks permission; status 403 over HTTP. For middleware: a business rule raises
    `Rejected`."""


class MiddlewareFailed(RayfoldError):
    """A domain's middleware raised, or did something that is not allowed. `reason` says which of
    the two, without the message's data.

    `done`: the command's events are on the log nevertheless. Otherwise nothing was appended, as far
    as this process knows.
    """

    def __init__(self, middleware: str, reason: str, done: bool = False) -> None:
        super().__init__(middleware, reason, done)
        self.middleware = middleware
        self.reason = reason
        self.done = done

    def __str__(self) -> str:
        told = f"the domain's middleware {self.middleware!r} {self.reason}"
        return f"{told}; the command was done before" if self.done else told


class UnknownEventType(RayfoldError):
    """The log holds an event that no registered event type (or upcaster) can read.

    Raised on folding, with the place of the event. Either a newer release wrote it, or its type
    was removed while its events remain: bring the type back, or write an upcaster for it.
    """

    def __init__(self, event_type: str, stream: str, revision: int) -> None:
        super().__init__(event_type, stream, revision)
        self.event_type = event_type
        self.stream = stream
        self.revision = revision

    def __str__(self) -> str:
        return (
            f"no event type {self.event_type!r} in the domain, "
            f"met at revision {self.revision} of stream {self.stream!r}"
        )


class UnreadableEvent(RayfoldError):
    """An event's data does not fit its type; the error names type, stream and revision."""

    def __init__(self, event_type: str, stream: str, revision: int, reason: str) -> None:
        super().__init__(event_type, stream, revision, reason)
        self.event_type = event_type
        self.stream = stream
        self.revision = revision
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"event {self.event_type!r} at revision {self.revision} of stream "
            f"{self.stream!r} cannot be read: {self.reason}"
        )


class EndlessProcess(RayfoldError):
    """A process sends commands because of its own commands, in an endless loop; it is parked.

    `chain` names the last commands, the latest first. Fix the handlers, or raise `max_chain`.
    """

    def __init__(self, limit: int, chain: tuple[str, ...]) -> None:
        super().__init__(limit, chain)
        self.limit = limit
        self.chain = chain

    def __str__(self) -> str:
        return f"more than {self.limit} commands one because of the other, the last: " + " ← ".join(
            self.chain
        )
