"""What stands for an actor while the runtime that ran it is gone."""

from __future__ import annotations

from typing import Any, NoReturn


class RuntimeLost(ConnectionError):
    """The actors' runtime died; it is started again, and the actors with it."""

    def __init__(self) -> None:
        super().__init__("the actors' runtime is started again")


class LostActor:
    """Takes the place of an actor's handle: no call may reach a runtime that is being replaced."""

    def __getattr__(self, method: str) -> LostActor:
        return self

    def remote(self, *arguments: Any, **named: Any) -> NoReturn:
        """Raise `RuntimeLost`."""
        raise RuntimeLost
