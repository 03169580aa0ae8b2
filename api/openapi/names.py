"""Operation ids: what functions are called in the clients that are generated."""

from __future__ import annotations


class OperationIds:
    """Gives ids in camelCase, each once."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def of(self, verb: str, subject: str) -> str:
        """Return the id of what is done to a `subject` in kebab-case: `send`, `place-order`."""
        first, *rest = [part for part in (*verb.split("-"), *subject.split("-")) if part]
        name = first + "".join(part.capitalize() for part in rest)
        number = 1
        unique = name
        while unique in self._given:  # one message on two routes, say
            number += 1
            unique = f"{name}{number}"
        self._given.add(unique)
        return unique
