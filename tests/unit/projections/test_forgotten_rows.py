"""Rows kept by others are not reused if a person in them was forgotten since."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from eventstore.errors import StoreUnavailable
from eventstore.memory import MemoryLog
from eventstore.personal.forgotten import Forgotten
from eventstore.personal.log import PersonalLog
from eventstore.port import ANY, StreamAppend
from eventstore.records import NewRecord
from projections.memory import replica_actor
from projections.memory.replica_actor import ReplicaActor
from rayfold import FORGOTTEN
from rayfold.runtime.identity import Identity
from tests.memory_keys import MemoryKeys
from tests.personal.people import Registered

VIEWS = ["contacts", "letters"]
SECRET = "secret@example.org"
DEADLINE = 60.0


class World:
    """An encrypted log, on which ada has registered, and replicas that follow it."""

    def __init__(self) -> None:
        self.keys = MemoryKeys()
        self.log = PersonalLog(MemoryLog(), self.keys)

    async def begin(self) -> None:
        """Let ada register."""
        event = Registered(customer_id="ada", email=SECRET)
        record = NewRecord("Registered", Registered.__rayfold__.encode(event), {}, str(uuid4()))
        await self.log.append([StreamAppend("customer-ada", ANY, [record])])

    def forget(self, *, is_settled: bool = False) -> None:
        """Destroy her key."""
        self.keys.forget("ada")
        self.keys.is_settled = is_settled

    @asynccontextmanager
    async def replica(self, folder: Path, peer: Any = None) -> AsyncIterator[ReplicaActor]:
        """An actor that was told to start, until it is stopped."""
        domain = "tests.personal", VIEWS, "", None, Identity("", "", ""), str(folder)
        actor = ReplicaActor("memory:all#0", *domain)
        await actor.start(peer)
        try:
            yield actor
        finally:
            await actor.stop()


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """What concerns a process is left out, and waits are short."""
    world = World()
    monkeypatch.setattr(replica_actor, "open_log", lambda *asked: world.log)
    monkeypatch.setattr(replica_actor, "begin_part", lambda name: None)
    monkeypatch.setattr(replica_actor, "collect_rarely", lambda: None)
    monkeypatch.setattr(replica_actor, "COOL", 0.01)
    monkeypatch.setattr(replica_actor, "RETRY", 0.01)
    await world.begin()
    return world


class Remote:
    """An actor as Ray's handle of it is called; `copying` is set once its rows are asked for."""

    def __init__(self, actor: ReplicaActor) -> None:
        self._actor = actor
        self.copying = asyncio.Event()
        self.may_copy = asyncio.Event()
        self.may_copy.set()

    def __getattr__(self, method: str) -> Any:
        return SimpleNamespace(remote=getattr(self._actor, method))

    @property
    def copy(self) -> Any:
        """See `ReplicaActor.copy`."""
        return SimpleNamespace(remote=lambda *asked: asyncio.ensure_future(self._copied(*asked)))

    async def _copied(self, *asked: Any) -> Any:
        rows = await self._actor.copy(*asked)
        self.copying.set()
        await self.may_copy.wait()
        return rows


def in_clear(folder: Path) -> list[str]:
    """Return the files that have the address."""
    return [path.name for path in folder.glob("*") if SECRET.encode() in path.read_bytes()]


async def email_in(actor: ReplicaActor) -> str:
    """Return what its row of ada has, once it serves."""
    async with asyncio.timeout(DEADLINE):
        while not (await actor.status())["ready"]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    [(_, document, _)] = actor._replica.rows("contacts")
    found: str = json.loads(document)["email"]
    return found


async def test_a_replica_starts_from_the_rows_of_a_peer_or_from_its_snapshots(
    world: World, tmp_path: Path
) -> None:
    """Without a forgetting: this shows that the following tests prove something."""
    async with world.replica(tmp_path / "a") as first:
        assert await email_in(first) == SECRET
        async with world.replica(tmp_path / "b", Remote(first)) as second:
            assert await email_in(second) == SECRET
            assert second._replica.events == 0
    async with world.replica(tmp_path / "a") as again:
        assert await email_in(again) == SECRET
        assert again._replica.status()["filled"] == {"contacts": 1, "letters": 0}


async def test_a_replica_that_starts_during_a_forgetting_takes_no_old_rows_of_a_peer(
    world: World, tmp_path: Path
) -> None:
    """For example, it was rebuilt before its peer, and restarted just then."""
    async with world.replica(tmp_path / "a") as first:
        assert await email_in(first) == SECRET
        world.forget()
        async with world.replica(tmp_path / "b", Remote(first)) as second:
            assert await email_in(second) == FORGOTTEN


async def test_a_replica_that_copies_a_peer_during_a_forgetting_is_rebuilt_afterwards(
    world: World, tmp_path: Path
) -> None:
    async with world.replica(tmp_path / "a") as first:
        assert await email_in(first) == SECRET
        peer = Remote(first)
        peer.may_copy.clear()
        async with world.replica(tmp_path / "b", peer) as second:
            await asyncio.wait_for(peer.copying.wait(), DEADLINE)
            world.forget()
            await first.rebuild("contacts")
            rebuilding = asyncio.ensure_future(second.rebuild("contacts"))
            done, _ = await asyncio.wait([rebuilding], timeout=0.1)
            assert not done
            peer.may_copy.set()
            await asyncio.wait_for(rebuilding, DEADLINE)
            assert await email_in(first) == await email_in(second) == FORGOTTEN


async def test_a_snapshot_from_before_the_forgetting_is_not_used(
    world: World, tmp_path: Path
) -> None:
    """A node was down during the forgetting, and is the only one now."""
    async with world.replica(tmp_path) as there:
        assert await email_in(there) == SECRET
    assert len(in_clear(tmp_path)) == 1
    world.forget(is_settled=True)
    async with world.replica(tmp_path) as again:
        assert await email_in(again) == FORGOTTEN
    assert not in_clear(tmp_path)


async def test_no_snapshot_is_taken_of_rows_that_may_have_forgotten_data(
    world: World, tmp_path: Path
) -> None:
    async with world.replica(tmp_path) as actor:
        assert await email_in(actor) == SECRET
        world.forget()
    assert not in_clear(tmp_path)


async def test_a_replica_waits_until_it_is_known_who_is_forgotten(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.Event()

    async def away() -> Forgotten:
        asked.set()
        raise StoreUnavailable("no keys")

    with monkeypatch.context() as patch:
        patch.setattr(world.keys, "forgotten", away)
        async with world.replica(tmp_path) as actor:
            await asyncio.wait_for(asked.wait(), DEADLINE)
            assert not (await actor.status())["ready"]
            patch.undo()
            assert await email_in(actor) == SECRET


async def test_who_follows_a_row_gets_what_is_left_after_the_forgetting(
    world: World, tmp_path: Path
) -> None:
    async with world.replica(tmp_path) as actor:
        assert await email_in(actor) == SECRET
        await actor.watch("gateway", [("contacts", "ada")])
        [(_, _, before, *_)] = await actor.changes("gateway", DEADLINE) or []
        assert SECRET.encode() in before
        world.forget()
        await actor.rebuild("contacts")
        [(_, _, after, *_)] = await actor.changes("gateway", DEADLINE) or []
        assert SECRET.encode() not in after
