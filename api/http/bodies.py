"""Bounds the memory of partly received request bodies over all connections."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from api.http.problems import unavailable


class Begun:
    """One partly received body."""

    __slots__ = ("_bodies", "size")

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self.size = 0

    def grown(self, size: int) -> None:
        """Note the body's present size.

        Raises:
            Problem: 503 if there is no room for it.
        """
        self._bodies.held += size - self.size
        self.size = size
        if self._bodies.held > self._bodies.most:
            raise unavailable(
                "overloaded", "the gateway is receiving as many large bodies as it has room for"
            )


class Bodies:
    """The bound: each body may have its full size, but not on all connections at the same time."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0

    @contextmanager
    def begun(self) -> Iterator[Begun]:
        """Count a body until it is complete or abandoned."""
        one = Begun(self)
        try:
            yield one
        finally:
            self.held -= one.size
