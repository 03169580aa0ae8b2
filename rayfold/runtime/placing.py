"""Where actors run: decided by the part that knows the nodes, used by both sides.

It is a port: sides pass on what they get to Ray's `options`. Without nodes to choose from, as in
tests, an actor runs anywhere and claims nothing.
"""

from __future__ import annotations

from typing import Any, Protocol


class Placing(Protocol):
    """Chooses a node for each actor."""

    def options(self, name: str, kind: str, apart: str) -> dict[str, Any]:
        """Return where an actor is to run, and what it claims there, as Ray's options.

        `kind` is one of `write`, `dedicated`, `memory`, `postgres`, `process`. Actors with the same
        `apart` are on different nodes where that can be: not all of them may end at once. The
        same `name` again means that the actor is made again. May block.
        """
        ...

    def suspect(self, name: str) -> None:
        """Avoid the node of an actor for a while, as it fell silent there."""
        ...

    def found(self, name: str, apart: str, node: str) -> None:
        """Note on which node an actor is: Ray, which restarts it, may have taken another one."""
        ...

    def misplaced(self, name: str) -> bool:
        """Return whether an actor is with another from which it is to be apart, though a node is
        there that has none of them. May block."""
        ...

    def ended(self, name: str) -> None:
        """Forget an actor that ended for good."""
        ...


class Anywhere:
    """Leaves it to Ray."""

    def options(self, name: str, kind: str, apart: str) -> dict[str, Any]:
        """See `Placing.options`."""
        return {"num_cpus": 0}

    def suspect(self, name: str) -> None:
        """See `Placing.suspect`."""

    def found(self, name: str, apart: str, node: str) -> None:
        """See `Placing.found`."""

    def misplaced(self, name: str) -> bool:
        """See `Placing.misplaced`."""
        return False

    def ended(self, name: str) -> None:
        """See `Placing.ended`."""


class Placed:
    """One actor and its place."""

    def __init__(self, placing: Placing, name: str, kind: str, apart: str) -> None:
        self._placing = placing
        self._name = name
        self._kind = kind
        self._apart = apart

    def options(self) -> dict[str, Any]:
        """See `Placing.options`."""
        return self._placing.options(self._name, self._kind, self._apart)

    def suspect(self) -> None:
        """See `Placing.suspect`."""
        self._placing.suspect(self._name)

    def found(self, node: str) -> None:
        """See `Placing.found`."""
        self._placing.found(self._name, self._apart, node)

    def misplaced(self) -> bool:
        """See `Placing.misplaced`."""
        return self._placing.misplaced(self._name)

    def ended(self) -> None:
        """See `Placing.ended`."""
        self._placing.ended(self._name)
