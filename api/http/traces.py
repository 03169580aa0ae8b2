"""The port for spans of requests; `rayfold.runtime.tracing` implements it."""

from __future__ import annotations

from typing import Protocol


class RequestSpan(Protocol):
    """The span of a traced request."""

    @property
    def traceparent(self) -> str:
        """The trace context to pass on."""
        ...

    @property
    def trace_id(self) -> str:
        """The id of its trace."""
        ...

    def set(self, name: str, value: str | int | float | bool) -> None:
        """Set an attribute."""
        ...

    def end(self, error: BaseException | str | None = None) -> None:
        """End the span, with an error if there was one."""
        ...


class RequestTraces(Protocol):
    """Decides which requests are traced."""

    def begin(self, method: str, route: str, traceparent: str) -> RequestSpan | None:
        """Begin a request's span; None if it is not traced. `traceparent` is the client's."""
        ...
