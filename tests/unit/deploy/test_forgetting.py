"""Who can be forgotten; and that delays nobody else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID, uuid4

import pytest

from actors.errors import Unavailable
from deploy.stack import forgetting as forgetting_module
from deploy.stack import taken_up as taken_up_module
from deploy.stack.forgetting import Forgetting
from eventstore.memory import MemoryLog
from eventstore.personal import postgres as keys
from eventstore.personal.postgres import Destroyed, KeySet
from eventstore.personal.witness import note_destroyed
from projections.errors import PostgresUnavailable, ProjectionError, UnknownTarget
from rayfold import Registry

nothing = cast("Any", None)


@pytest.mark.parametrize("subject", ["ada", "Acme:ada", ":ada", ""])
async def test_with_tenants_a_person_belongs_to_one_tenant(subject: str) -> None:
    """Otherwise an operator would be told that the log has no data of a person, though it has."""
    registry = Registry.load("tests.personal", tenants=True)
    forgetting = Forgetting(registry, "", nothing, nothing, nothing, nothing)
    with pytest.raises(UnknownTarget, match="is of no tenant"):
        await forgetting.forget(["acme:ada", subject])


class Stack:
    """What is asked to let go of somebody; `refuse` has what does not, streams and views."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = {each: uuid4() for each in ("ada", "bob")}
        self.cleared: set[UUID] = set()
        self.refuse: set[str] = set()
        self.rows = {"ada", "bob"}
        """Of whom there is a row."""
        self.done: list[str] = []
        self.is_alone = True
        for name in ("unsettled", "clear", "settle", "key_set", "destroy"):
            monkeypatch.setattr(keys, name, getattr(self, name))
        self.log, self.mark, self.there = MemoryLog(), uuid4(), set[UUID]()
        registry = Registry.load("tests.personal")
        mine = cast("Any", self)
        self.forgetting = Forgetting(
            registry, "", mine, mine, mine, self.log, lambda: self.is_alone
        )
        monkeypatch.setattr(self.forgetting, "_connection", self.connection)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """A connection, as far as it is used."""
        yield self

    async def execute(self, statement: str, **options: Any) -> None:
        """What is done to tables."""
        self.done.append(statement)

    async def fetch(self, statement: str, subjects: list[str]) -> list[dict[str, str]]:
        """Whose rows there are."""
        assert 'FROM rayfold_state."account"' in statement
        return [{"_id": each} for each in sorted(self.rows.intersection(subjects))]

    async def unsettled(self, connection: Any) -> list[Destroyed]:
        """See `eventstore.personal.postgres`."""
        return [Destroyed(key, each, datetime.now(UTC), None) for each, key in self.left.items()]

    async def clear(self, connection: Any, ids: Collection[UUID]) -> None:
        """See `eventstore.personal.postgres`."""
        self.cleared |= {*ids}

    async def settle(self, connection: Any, ids: Collection[UUID]) -> None:
        """See `eventstore.personal.postgres`."""
        self.left = {each: key for each, key in self.left.items() if key not in ids}

    async def key_set(self, connection: Any) -> KeySet:
        """See `eventstore.personal.postgres`."""
        return KeySet(UUID(int=1), False, self.mark)

    async def destroy(self, connection: Any, ids: Collection[UUID]) -> int:
        """See `eventstore.personal.postgres`."""
        gone, self.there = self.there.intersection(ids), self.there.difference(ids)
        self.mark = uuid4() if gone else self.mark
        return len(gone)

    async def forget_personal(self, subjects: Any = None) -> None:
        """Of writers, with subjects, and of processes."""
        self.done.append("processes" if subjects is None else "writers")

    async def refill(self, stream: str) -> None:
        """Of writers."""
        if stream in self.refuse:
            raise Unavailable(f"{stream} cannot be read")
        self.done.append(stream)

    async def afresh(self, view: str, *, accept_parked: bool) -> None:
        """Of rebuilds."""
        assert accept_parked
        if view in self.refuse:
            raise ProjectionError("it stopped")
        self.done.append(view)

    def stores_of(self, view: Any) -> tuple[str, ...]:
        """Of rebuilds."""
        return ("postgres",)

    async def take_away(self) -> str:
        """Let go of what may be let go; return what could not."""
        self.done.clear()
        failed = []
        for step in (self.forgetting._forget_states, self.forgetting._forget_views):
            try:
                await step()
            except Exception as error:
                failed.append(str(error))
        return "; ".join(failed)


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> Stack:
    return Stack(monkeypatch)


async def test_states_are_cleared_before_views_and_processes_before_writers(
    stack: Stack,
) -> None:
    assert await stack.take_away() == ""
    assert stack.done[:6] == [
        *("processes", "writers", "account-ada", "account-bob", "contacts", "letters")
    ]
    assert not stack.left


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Views that were left, and their stores."""
    left = {"contacts": ["postgres"]}

    async def taken_up(*_: Any) -> dict[str, list[str]]:
        return {**left}

    async def note_built(_: Any, view: str, stores: list[str]) -> None:
        assert left.pop(view) == stores

    monkeypatch.setattr(taken_up_module, "taken_up", taken_up)
    monkeypatch.setattr(taken_up_module, "note_built", note_built)
    return left


async def test_a_view_that_a_release_takes_up_again_is_built_before_anybody_reads_it(
    stack: Stack, left: dict[str, list[str]]
) -> None:
    stack.refuse.add("contacts")
    await stack.forgetting.begin()  # told, and tried again
    assert left
    stack.refuse.clear()
    running = asyncio.create_task(stack.forgetting.run())
    async with asyncio.timeout(60):
        while left:  # noqa: ASYNC110 (it is another task's)
            await asyncio.sleep(0.01)
    running.cancel()
    assert "contacts" in stack.done


async def test_a_view_left_by_a_release_that_fails_delays_no_other_and_no_forgetting(
    stack: Stack, left: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    left["letters"] = ["postgres"]
    stack.refuse.add("contacts")
    await stack.forgetting.begin()
    assert {*left} == {"contacts"}
    monkeypatch.setattr(forgetting_module, "RETRY", 3600.0)
    running = asyncio.create_task(stack.forgetting.run())
    async with asyncio.timeout(60):
        while stack.cleared != {*stack.left.values()}:  # noqa: ASYNC110 (it is another task's)
            await asyncio.sleep(0.01)
        while not (await stack.forgetting.status())["error"]:  # noqa: ASYNC110
            await asyncio.sleep(0)
    running.cancel()
    assert "processes" in stack.done


async def test_a_view_left_by_a_release_that_takes_long_delays_no_forgetting(
    stack: Stack, left: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.refuse.add("contacts")
    await stack.forgetting.begin()
    stack.refuse.clear()

    async def afresh(view: str, *, accept_parked: bool) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(stack, "afresh", afresh)
    running = asyncio.create_task(stack.forgetting.run())
    async with asyncio.timeout(60):
        while stack.cleared != {*stack.left.values()}:  # noqa: ASYNC110 (it is another task's)
            await asyncio.sleep(0.01)
    assert left
    running.cancel()


async def test_forgetting_a_person_does_not_wait_for_a_view_that_cannot_be_rebuilt(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.refuse.add("contacts")
    monkeypatch.setattr(forgetting_module, "RETRY", 3600.0)
    running = asyncio.create_task(stack.forgetting.run())
    async with asyncio.timeout(60):
        while not (await stack.forgetting.status())["error"]:  # noqa: ASYNC110
            await asyncio.sleep(0)
        stack.refuse.clear()
        stack.forgetting._asked.set()  # as `forget` does
        while stack.left:  # noqa: ASYNC110 (it is another task's)
            await asyncio.sleep(0.01)
    running.cancel()


async def test_a_person_who_is_held_does_not_wait_for_a_view_that_cannot_be_rebuilt(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.refuse |= {"contacts", "account-ada"}
    monkeypatch.setattr(forgetting_module, "RETRY", 0.01)
    monkeypatch.setattr(forgetting_module, "_longer", lambda *_: 3600.0)
    running = asyncio.create_task(stack.forgetting.run())
    both = "of ada: account-ada cannot be read; contacts: it stopped"
    async with asyncio.timeout(60):
        while (await stack.forgetting.status())["error"] != both:  # noqa: ASYNC110
            await asyncio.sleep(0)
        while stack.done.count("letters") < 2:  # the second try, whatever came
            stack.forgetting._rebuilt.clear()
            await asyncio.sleep(0)
        stack.refuse.remove("account-ada")
        while stack.cleared != {*stack.left.values()}:  # noqa: ASYNC110 (it is another task's)
            await asyncio.sleep(0.01)
        while (await stack.forgetting.status())["error"] != "contacts: it stopped":  # noqa: ASYNC110
            await asyncio.sleep(0)
    running.cancel()


async def test_a_view_that_is_not_built_in_time_does_not_hold_up_the_start(
    stack: Stack, left: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def afresh(view: str, *, accept_parked: bool) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(stack, "afresh", afresh)
    monkeypatch.setattr(forgetting_module, "BEGIN", 0.01)
    async with asyncio.timeout(60):
        await stack.forgetting.begin()
    assert left


async def test_a_start_without_personal_data_asks_nothing_of_who_is_forgotten(
    caplog: pytest.LogCaptureFixture,
) -> None:
    shop = Registry.load("examples.shop")
    nowhere = "postgresql://127.0.0.1:1/none"
    await Forgetting(shop, nowhere, nothing, nothing, nothing, nothing).begin()
    assert not caplog.records


async def test_values_in_the_statistics_of_postgres_are_removed_too(stack: Stack) -> None:
    """`pg_stats` shows the most common ones, until tables are analyzed again."""
    assert await stack.take_away() == ""
    assert 'VACUUM (ANALYZE) rayfold_state."account"' in stack.done


async def test_a_person_whose_row_cannot_be_rebuilt_delays_no_other(stack: Stack) -> None:
    stack.refuse.add("account-ada")
    ada, bob = stack.left["ada"], stack.left["bob"]
    assert await stack.take_away() == "of ada: account-ada cannot be read"
    assert {*stack.left} == {"ada"}
    assert stack.cleared == {bob}
    assert await stack.take_away() == "of ada: account-ada cannot be read"
    assert stack.done == ["writers"]  # nothing else is done again and again meanwhile
    stack.refuse.clear()
    assert await stack.take_away() == ""
    assert "contacts" in stack.done
    assert not stack.left
    assert ada in stack.cleared


async def test_no_aggregate_is_loaded_for_a_row_that_does_not_exist(stack: Stack) -> None:
    """A dedicated aggregate would need an actor, for which another might have to end."""
    stack.rows = {"bob"}
    stack.refuse.add("account-ada")
    assert await stack.take_away() == ""
    assert stack.done[:4] == ["processes", "writers", "account-bob", "contacts"]
    assert not stack.left


async def test_a_view_that_fails_delays_no_other_view(stack: Stack) -> None:
    stack.refuse.add("contacts")
    assert await stack.take_away() == "contacts: it stopped"
    assert "letters" in stack.done
    assert {*stack.left} == {"ada", "bob"}
    stack.refuse.clear()
    assert await stack.take_away() == ""
    assert "contacts" in stack.done
    assert "letters" not in stack.done  # it was rebuilt before
    assert not stack.left


async def test_while_the_previous_release_serves_the_forgetting_is_not_complete(
    stack: Stack,
) -> None:
    """Its replicas have old rows until its last gateway is gone."""
    stack.is_alone = False
    assert "the previous release still serves" in await stack.take_away()
    assert {*stack.left} == {"ada", "bob"}
    await stack.take_away()
    assert stack.done == []
    stack.is_alone = True
    assert await stack.take_away() == ""
    assert "contacts" not in stack.done  # once was enough
    assert not stack.left


async def test_a_destroyed_key_that_reappears_in_the_database_is_destroyed_again(
    stack: Stack,
) -> None:
    """The database was restored under a running stack, or a replica of it took over."""
    gone, other = uuid4(), uuid4()
    await note_destroyed(stack.log, [gone])
    await stack.forgetting._destroy_again()
    stack.there = {gone, other}
    await stack.forgetting._destroy_again()
    assert stack.there == {gone, other}  # the log is not read as long as nothing has changed
    stack.mark = uuid4()
    await stack.forgetting._destroy_again()
    assert stack.there == {other}


@pytest.mark.parametrize("before", ["settled", "a view has failed"])
async def test_what_was_read_while_a_destroyed_key_existed_again_is_cleared_again(
    stack: Stack, before: str
) -> None:
    """A part that began in between has folded it, although each view was rebuilt before."""
    left = dict(stack.left)
    if before == "a view has failed":
        stack.refuse.add("letters")
    await stack.take_away()
    assert "contacts" in stack.done
    stack.left, stack.there, stack.mark = left, {*left.values()}, uuid4()
    await note_destroyed(stack.log, left.values())
    await stack.forgetting._destroy_again()
    await stack.take_away()
    assert "contacts" in stack.done


async def test_a_postgres_that_is_down_is_not_logged_as_a_warning_of_forgetting(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Usually nobody is being forgotten then."""

    async def away() -> None:
        raise PostgresUnavailable("no answer")

    monkeypatch.setattr(forgetting_module, "RETRY", 0)
    monkeypatch.setattr(stack.forgetting, "_destroy_again", away)
    with caplog.at_level(logging.INFO, logger=forgetting_module.__name__):
        running = asyncio.create_task(stack.forgetting.run())
        async with asyncio.timeout(10):
            while not caplog.records:  # noqa: ASYNC110
                await asyncio.sleep(0)
        running.cancel()
    assert {each.levelname for each in caplog.records} == {"INFO"}


async def test_a_person_forgotten_meanwhile_is_removed_from_all_views(stack: Stack) -> None:
    stack.refuse.add("contacts")
    await stack.take_away()
    stack.left["eve"] = uuid4()
    stack.refuse.clear()
    assert await stack.take_away() == ""
    assert "letters" in stack.done
