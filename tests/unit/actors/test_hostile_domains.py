"""An author's code cannot damage the log. On a log in memory."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated, Any
from uuid import UUID, uuid4

import pytest
from pydantic import AfterValidator, field_serializer

from actors.envelope import Done, enclose
from actors.errors import DecisionFailed
from actors.host import aggregate_cache
from actors.host.host import Host
from actors.host.snapshots import WORTH, save
from eventstore.memory import MemoryLog
from eventstore.port import InvalidAppend
from rayfold import Aggregate, Command, Event, Message, Registry
from rayfold.event_checks import MAX_EVENTS


class Poured(Event, name="Poured"):
    cup: UUID
    litres: float = 1.0


class Spilt(Event, name="Spilt"):
    cup: UUID


class Elsewhere(Event, name="Elsewhere"):
    cup: UUID


refused_since: list[str] = []
"""By a validator, after commands were sent: a release before had none."""


def _taken(how: str) -> str:
    return sys.exit(7) if how in refused_since else how


class Pour(Command, name="pour", creates=True):
    cup: UUID
    how: Annotated[str, AfterValidator(_taken)]
    count: int = 1


class Cup(Message):
    poured: int = 0


class CupAggregate(
    Aggregate[Cup, Pour, Poured | Spilt], category="cup", id_field="cup", initial=Cup()
):
    @staticmethod
    def decide(state: Cup, command: Pour) -> Iterator[Event]:
        cup = command.cup
        match command.how:
            case "well":
                for _ in range(command.count):
                    yield Poured(cup=cup)
            case "another":
                yield Poured(cup=cup)
                yield Poured(cup=OTHER)
            case "undeclared":
                yield Elsewhere(cup=cup)
            case "nan":
                yield Poured.model_construct(cup=cup, litres=float("nan"))
            case "infinity":
                yield Poured(cup=cup).replace(litres=float("inf"))
            case "without end":
                while True:
                    yield Poured(cup=cup)
            case "midway":
                yield Poured(cup=cup)
                raise ZeroDivisionError
            case "bad fold":
                yield Poured(cup=cup)
                yield Spilt(cup=cup)
            case "no state":
                yield Poured(cup=cup, litres=0)
            case "exit":
                sys.exit(7)
            case "no event":
                yield "poured"  # type: ignore[misc]

    @staticmethod
    def evolve(state: Cup, event: Poured | Spilt) -> Cup:
        if isinstance(event, Spilt):
            raise LookupError("spilt")
        if event.litres == 0:
            return None  # type: ignore[return-value]
        return state.replace(poured=state.poured + 1)


OTHER = UUID("e618bc63-5c9d-476d-bf15-e331099a79d8")


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry([sys.modules[__name__]])


async def pour(host: Host, registry: Registry, cup: UUID, *hows: str, count: int = 1) -> list[Any]:
    commands = [Pour(cup=cup, how=how, count=count) for how in hows]
    return await host.handle([enclose(registry, command) for command in commands])


async def test_a_command_whose_validator_raises_fails_alone(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = [Pour(cup=uuid4(), how=how) for how in ("well", "oddly", "well")]
    sent = [enclose(registry, each) for each in commands]
    monkeypatch.setattr(sys.modules[__name__], "refused_since", ["oddly"])
    first, bad, last = await Host(registry, MemoryLog(), "test").handle(sent)
    assert [type(first), type(last)] == [Done, Done]
    assert isinstance(bad, DecisionFailed)
    assert "SystemExit: 7" in bad.detail


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("another", f"Poured.cup is '{OTHER}', another aggregate's id"),
        ("undeclared", "Elsewhere, which is not among the events of CupAggregate"),
        ("nan", "NaN"),
        ("infinity", "Poured.litres cannot be this float: Input should be a finite number"),
        ("without end", f"more than {MAX_EVENTS} events"),
        ("midway", "ZeroDivisionError"),
        ("bad fold", "LookupError"),
        ("exit", "SystemExit: 7"),
        ("no state", "evolve returned a NoneType, not a Cup"),
        ("no event", "str, which is not among the events"),
    ],
)
async def test_events_that_may_not_be_on_the_log_fail_their_own_command(
    registry: Registry, how: str, says: str
) -> None:
    log, cup = MemoryLog(), uuid4()
    host = Host(registry, log, "test")
    first, bad, last = await pour(host, registry, cup, "well", how, "well")
    assert isinstance(bad, DecisionFailed)
    assert says in bad.detail
    assert [first.revision, last.revision] == [0, 1]
    assert [raw.event_type async for raw in log.read_stream(f"cup-{cup}")] == ["Poured"] * 2
    [again] = await pour(Host(registry, log, "another"), registry, cup, "well")
    assert again == Done(2, 3)


async def test_one_command_may_yield_ten_thousand_events(registry: Registry) -> None:
    log, cup = MemoryLog(), uuid4()
    host = Host(registry, log, "test")
    [outcome] = await pour(host, registry, cup, "well", count=10_000)
    assert outcome == Done(9_999, 10_000)


async def test_a_repeat_of_a_command_of_many_events_gets_the_first_receipt(
    registry: Registry,
) -> None:
    log, cup = MemoryLog(), uuid4()
    envelopes = [
        enclose(registry, Pour(cup=cup, how="well")),
        enclose(registry, Pour(cup=cup, how="well", count=5_000)),
    ]
    first = await Host(registry, log, "test").handle(envelopes)
    assert [outcome.position for outcome in first] == [5_001, 5_001]
    again = await Host(registry, log, "another").handle(envelopes)
    assert again == first


class Filled(Event, name="Filled"):
    jug: str


class Fill(Command, name="fill", creates=True):
    jug: str


class Jug(Message):
    filled: int = 0

    @field_serializer("filled")
    def _told(self, value: int) -> int:
        if BREAKS:
            raise KeyError("a mistake")
        return value


class JugAggregate(Aggregate[Jug, Fill, Filled], category="jug", id_field="jug", initial=Jug()):
    @staticmethod
    def decide(state: Jug, command: Fill) -> Iterator[Filled]:
        for _ in range(WORTH):
            yield Filled(jug=command.jug)

    @staticmethod
    def evolve(state: Jug, event: Filled) -> Jug:
        return state.replace(filled=state.filled + 1)


BREAKS: list[bool] = []


async def test_a_state_that_cannot_be_written_prevents_no_other_snapshot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry, log = Registry([sys.modules[__name__]]), MemoryLog()
    host = Host(registry, log, "test")
    jugs = [enclose(registry, Fill(jug=name)) for name in ("one", "two")]
    assert [type(each) for each in await host.handle(jugs)] == [Done, Done]
    keep = save

    async def first_breaks(store: Any, entity: Any) -> None:
        BREAKS[:] = [True] if entity.stream == "jug-one" else []
        await keep(store, entity)

    monkeypatch.setattr(aggregate_cache, "save", first_breaks)
    await host.drain()
    BREAKS.clear()
    kept = [raw.stream async for raw in log.read_all(["snapshot-"])]
    assert kept == ["snapshot-jug-two"]


async def test_a_snapshot_that_the_store_refuses_is_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class SmallLog(MemoryLog):
        """Takes no snapshot."""

        async def append(self, appends: Any) -> Any:
            if appends[0].stream.startswith("snapshot-"):
                return [InvalidAppend("it is too large")]
            return await super().append(appends)

    registry = Registry([sys.modules[__name__]])
    host = Host(registry, SmallLog(), "test")
    await host.handle([enclose(registry, Fill(jug="one"))])
    await host.drain()
    [told] = [each for each in caplog.records if each.msg.startswith("a snapshot was not written")]
    assert (told.stream, told.error) == ("jug-one", "it is too large")  # type: ignore[attr-defined]
