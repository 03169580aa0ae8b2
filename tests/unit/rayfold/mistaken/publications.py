"""Publications and reactors, each with something wrong."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from pydantic import Field

from rayfold import IntegrationEvent, Message, Publication, Reactor, on, starts
from tests.unit.rayfold.mistaken.things import Told, Versioned
from tests.unit.rayfold.mistaken.views import NobodyYields


class ToldAgain(IntegrationEvent, name="told"):
    colour: str


class Yelled(IntegrationEvent, name="Yelled", version=0):
    colour: list[str]
    at: datetime


class Inside(Message, serialize_by_alias=True):
    size: int = Field(serialization_alias="inCm")


class Hushed(IntegrationEvent, name="hushed", serialize_by_alias=True):
    colour: str = Field(alias="tone")
    shade: str = Field(serialization_alias="shadeOf", validation_alias="of")
    inside: Inside


class Untold(Publication):  # type: ignore[type-arg]
    @staticmethod
    @on(Versioned)
    def versioned(event: Versioned) -> Any:
        """Say nothing."""


class Twofold(Publication[Told | Yelled | Hushed], name="news", key="colour"):
    @staticmethod
    @starts(Versioned)
    def versioned(event: Versioned) -> Iterator[Told]:
        yield Told(thing_id=event.thing_id)

    @staticmethod
    @on(NobodyYields)
    def nobody(event: NobodyYields) -> None:
        return None


class TwofoldAgain(Publication[ToldAgain], name="news", key="colour"):
    """Carries what processes publish."""


class Alone(Publication[ToldAgain], name="alone", key="colour"):
    """Fine by itself."""


class Idle(Reactor, name="Idle", attempts=0, timeout=0):
    pass


class Waits(Reactor, name="two-for-one"):
    @on(Versioned)
    def versioned(self, event: Versioned) -> None:
        return None

    @on(NobodyYields)
    async def nobody(self, event: NobodyYields, attempt: Any) -> None:
        pass
