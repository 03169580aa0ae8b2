"""The placeholder for an actor whose runtime is gone."""

from __future__ import annotations

from typing import Any, NoReturn

NODE_LOSS = 1.5
"""Seconds until an actor that Ray has given up is made again. Its node died: where that was all of
Ray, which is started again then, nothing may ask the old one meanwhile."""


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
