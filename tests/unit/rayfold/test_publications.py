"""What a domain says of publications and reactors, and what they make of events."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from pydantic import Field

from rayfold import (
    Aggregate,
    Attempt,
    Command,
    Event,
    IntegrationEvent,
    Message,
    Publication,
    Reactor,
    Registry,
    on,
)
from rayfold.publication import MAX_DERIVED
from rayfold.testing import published


class Sign(Command, name="sign"):
    paper: str
    name: str


class Signed(Event, name="Signed"):
    paper: str
    name: str


class Torn(Event, name="Torn"):
    paper: str


class Paper(Message):
    pass


class Papers(
    Aggregate[Paper, Sign, Signed | Torn], category="paper", id_field="paper", initial=Paper()
):
    @staticmethod
    def decide(state: Paper, command: Sign) -> list[Signed | Torn]:
        return [Signed(paper=command.paper, name=command.name)]

    @staticmethod
    def evolve(state: Paper, event: Signed | Torn) -> Paper:
        return state


class Signature(IntegrationEvent, name="papers.signature", version=2):
    """Its fields are called like what its class declares."""

    key: str
    name: str
    version: int = 2
    by: Sequence[str] = Field(default_factory=list)


class Other(IntegrationEvent, name="other"):
    key: str


class News(Publication[Signature], name="news", key="key"):
    @staticmethod
    @on(Signed)
    def signed(event: Signed) -> Iterator[Signature]:
        for number in range(int(event.name) if event.name.isdigit() else 1):
            yield Signature(key=event.paper, name=f"{event.name}{number}")

    @staticmethod
    @on(Torn)
    def torn(event: Torn) -> Any:
        if event.paper == "by two":
            return Signature(key=event.paper, name="x", by=("ada", "bob"))
        return Other(key=event.paper) if event.paper == "other" else None


class Filed(Reactor, name="filed"):
    @on(Signed)
    async def signed(self, event: Signed, attempt: Attempt) -> None:
        pass


def test_a_domain_declares_them() -> None:
    registry = Registry([sys.modules[__name__]])
    assert registry.publications == {"news": News.__rayfold__}
    assert registry.integration_events == {"papers.signature": Signature.__rayfold__}
    assert registry.reactors == {"filed": Filed.__rayfold__}
    assert [*registry.events] == ["Signed", "Torn"]


def test_an_event_leads_to_integration_events_of_fields_with_any_name() -> None:
    assert published(News, Signed(paper="a", name="x"), Signed(paper="b", name="2")) == [
        Signature(key="a", name="x0"),
        Signature(key="b", name="20"),
        Signature(key="b", name="21"),
    ]
    assert News.__rayfold__.key_of(Signature(key="a", name="x")) == "a"
    assert published(News, Torn(paper="a")) == []


def test_an_integration_event_that_was_not_declared_is_refused() -> None:
    with pytest.raises(TypeError, match=r"does not carry a [A-Z][a-z]+$"):  # and says no field
        published(News, Torn(paper="other"))


def test_one_event_leads_to_a_bounded_number() -> None:
    with pytest.raises(ValueError, match=f"more than {MAX_DERIVED}"):
        published(News, Signed(paper="a", name=str(10**9)))


def test_an_empty_key_is_refused() -> None:
    with pytest.raises(ValueError, match="the key 'key' of a Signature is empty"):
        News.__rayfold__.key_of(Signature(key="", name="said of nobody"))
    with pytest.raises(ValueError, match="empty"):
        published(News, Signed(paper="", name="x"))


def test_an_integration_event_that_would_be_read_differently_is_refused() -> None:
    """A publication would park the stream, so a test must find it."""
    with pytest.raises(
        ValueError, match=r"Signature\.by does not come back .* a tuple became a list"
    ):
        published(News, Torn(paper="by two"))


def test_an_attempts_id_is_that_of_its_event_and_reactor() -> None:
    reactor = Filed.__rayfold__
    assert reactor.attempt_id("paper-a", 1, 0) == reactor.attempt_id("paper-a", 1, 0)
    ids = {reactor.attempt_id("paper-a", revision, n) for revision in (1, 2) for n in (0, 1)}
    assert len(ids) == 4


def test_a_publication_or_reactor_that_does_something_else_has_another_fingerprint() -> None:
    class Louder(Publication[Signature], name="news", key="key"):
        @staticmethod
        @on(Signed)
        def signed(event: Signed) -> Signature:
            return Signature(key=event.paper, name=event.name.upper())

    class Slower(Reactor, name="filed", timeout=30.0):
        @on(Signed)
        async def signed(self, event: Signed, attempt: Attempt) -> None:
            pass

    assert Louder.__rayfold__.fingerprint != News.__rayfold__.fingerprint
    assert Slower.__rayfold__.fingerprint != Filed.__rayfold__.fingerprint
