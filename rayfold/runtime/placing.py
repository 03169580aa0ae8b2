"""The port by which the write and the read side learn on which node to start an actor.

They pass the answer on to Ray's `options`. Without nodes to choose from, as in tests, an actor
runs anywhere and reserves nothing.
"""

from __future__ import annotations

from typing import Any, Protocol


class Placing(Protocol):
    """Chooses a node for each actor."""

    def options(self, name: str, kind: str, apart: str) -> dict[str, Any]:
        """Return where an actor is to run, and what it reserves there, as Ray's options.

        `kind` is one of `write`, `dedicated`, `memory`, `postgres`, `process`. Actors with the same
        `apart` get different nodes if possible, so that they do not all end at once. A repeated
        `name` means that the actor is started again. May block.
        """
        ...

    def suspect(self, name: str) -> None:
        """Avoid the node of an actor for a while, because the actor fell silent there."""
        ...

    def found(self, name: str, apart: str, node: str) -> None:
        """Note on which node an actor is: Ray may have restarted it on another one."""
        ...

    def misplaced(self, name: str) -> bool:
        """Return whether an actor shares a node with another of the same `apart`, although there is
        a node that has none of them. May block."""
        ...

    def ended(self, name: str) -> None:
        """Forget an actor that ended for good."""
        ...


class Anywhere:
    """Leaves the choice to Ray."""

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
