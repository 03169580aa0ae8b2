"""Bodies that have arrived in part: how much of them all connections hold together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from api.http.problems import unavailable


class Begun:
    """One of them."""

    __slots__ = ("_bodies", "size")

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self.size = 0

    def grown(self, size: int) -> None:
        """Note its size.

        Raises:
            Problem: 503 if there is no room for it.
        """
        self._bodies.held += size - self.size
        self.size = size
        if self._bodies.held > self._bodies.most:
            raise unavailable("overloaded", "as many bodies are on their way as there is room for")


class Bodies:
    """Bounds them. A body may be as large as each, but not as often as there are connections."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0

    @contextmanager
    def begun(self) -> Iterator[Begun]:
        """Count one until it is there, or given up."""
        one = Begun(self)
        try:
            yield one
        finally:
            self.held -= one.size
