"""Operation ids: the names of functions in generated clients."""

from __future__ import annotations


class OperationIds:
    """Makes unique ids in camelCase."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def of(self, verb: str, subject: str) -> str:
        """Return the id for a verb and a subject in kebab-case: `send`, `place-order`."""
        first, *rest = [part for part in (*verb.split("-"), *subject.split("-")) if part]
        name = first + "".join(part.capitalize() for part in rest)
        number = 1
        unique = name
        while unique in self._given:  # one message on two routes, say
            number += 1
            unique = f"{name}{number}"
        self._given.add(unique)
        return unique
