"""A stream that was not read yet: nothing is answered about it before it is read."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from actors.envelope import Done, enclose
from actors.errors import Unavailable
from actors.host.host import Host
from eventstore.memory import MemoryLog
from rayfold import Aggregate, Command, Event, Message, Registry

pytestmark = pytest.mark.usefixtures("one_turn")


class Open(Command, name="open", creates=True):
    tab: str


class Close(Command, name="close"):
    tab: str


class Prepare(Command, name="prepare", creates=True):
    """Has nothing to do where nobody has opened it."""

    tab: str


class Opened(Event, name="Opened"):
    tab: str


class Closed(Event, name="Closed"):
    tab: str


class State(Message):
    is_open: bool = False


class Tab(
    Aggregate[State, Open | Close | Prepare, Opened | Closed],
    category="tab",
    id_field="tab",
    initial=State(),
):
    @staticmethod
    def decide(state: State, command: Open | Close | Prepare) -> Iterator[Opened | Closed]:
        if isinstance(command, Open):
            yield Opened(tab=command.tab)
        elif state.is_open:
            yield Closed(tab=command.tab)

    @staticmethod
    def evolve(state: State, event: Opened | Closed) -> State:
        return State(is_open=isinstance(event, Opened))


@pytest.fixture
def registry() -> Registry:
    return Registry([sys.modules[__name__]])


@pytest.fixture
async def log(registry: Registry) -> MemoryLog:
    """Return a log on which a tab was opened by another writer."""
    log = MemoryLog()
    await Host(registry, log, "before").handle([enclose(registry, Open(tab="t"))])
    return log


async def test_that_there_is_nothing_to_do_is_decided_on_the_state_that_was_read(
    registry: Registry, log: MemoryLog
) -> None:
    [outcome] = await Host(registry, log, "now").handle([enclose(registry, Prepare(tab="t"))])
    assert isinstance(outcome, Done)
    assert outcome.revision == 1


@pytest.mark.parametrize("together", [True, False])
async def test_a_create_that_comes_too_late_leaves_nothing_behind(
    registry: Registry, log: MemoryLog, *, together: bool
) -> None:
    host = Host(registry, log, "now")
    late, close = enclose(registry, Open(tab="t"), timeout=-1.0), enclose(registry, Close(tab="t"))
    if together:
        refused, outcome = await host.handle([late, close])
    else:
        [refused], [outcome] = await host.handle([late]), await host.handle([close])
    assert isinstance(refused, Unavailable)
    assert isinstance(outcome, Done)
    assert outcome.revision == 1


async def test_a_repeat_after_a_create_is_answered_from_memory(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = MemoryLog()
    host = Host(registry, log, "now")
    create = enclose(registry, Open(tab="new"))
    [first] = await host.handle([create])
    monkeypatch.setattr(log, "read_stream", None)
    monkeypatch.setattr(log, "read_all", None)
    assert await host.handle([create]) == [first]
    assert isinstance(first, Done)
