"""The placeholder for an actor while the runtime that ran it is gone."""

from __future__ import annotations

from typing import Any, NoReturn

NODE_LOSS = 1.5
"""Seconds until an actor that Ray has given up is started again, because its node died. If Ray had
no other node, Ray itself is restarted, and nothing may call the old one meanwhile."""


class RuntimeLost(ConnectionError):
    """The actors' runtime died; it is being restarted together with the actors."""

    def __init__(self) -> None:
        super().__init__("the actors' runtime is started again")


class LostActor:
    """Takes the place of an actor's handle: no call may reach a runtime that is being replaced."""

    def __getattr__(self, method: str) -> LostActor:
        return self

    def remote(self, *arguments: Any, **named: Any) -> NoReturn:
        """Raise `RuntimeLost`."""
        raise RuntimeLost
