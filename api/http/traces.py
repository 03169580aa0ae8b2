"""The spans of requests, as the gateway needs them: see `rayfold.runtime.tracing`."""

from __future__ import annotations

from typing import Protocol


class RequestSpan(Protocol):
    """A request that is traced."""

    @property
    def traceparent(self) -> str:
        """What is told to whoever works for it."""
        ...

    @property
    def trace_id(self) -> str:
        """Its trace."""
        ...

    def set(self, name: str, value: str | int | float | bool) -> None:
        """Say something about it."""
        ...

    def end(self, error: BaseException | str | None = None) -> None:
        """End it; with what went wrong, if something did."""
        ...


class RequestTraces(Protocol):
    """Decides which requests are traced."""

    def begin(self, method: str, route: str, traceparent: str) -> RequestSpan | None:
        """Begin a request's span; None where it is not traced. `traceparent` is the client's."""
        ...
