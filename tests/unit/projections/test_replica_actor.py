"""The shell of a memory replica, without Ray: what follows the log may break, and what then."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eventstore.memory import MemoryLog
from projections.memory import replica_actor
from projections.memory.replica import Replica
from projections.memory.replica_actor import ReplicaActor
from projections.memory.replica_handle import ReplicaHandle
from projections.row_query import RowQuery, RowResult
from rayfold.runtime.identity import Identity
from tests.integration.projections.small import Totals, add
from tests.unit.stops import a_while

DOMAIN = "tests.integration.projections.small"
VIEWS = ["totals", "balances", "strict"]
DEADLINE = 60.0


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> MemoryLog:
    """The log that actors follow; what concerns a process is left out, and waits are short."""
    log = MemoryLog()
    monkeypatch.setattr(replica_actor, "open_log", lambda *asked: log)
    monkeypatch.setattr(replica_actor, "begin_part", lambda name: None)
    monkeypatch.setattr(replica_actor, "collect_rarely", lambda: None)
    monkeypatch.setattr(replica_actor, "COOL", 0.01)
    return log


class Remote:
    """An actor as Ray's handle of it is called."""

    def __init__(self, actor: ReplicaActor) -> None:
        self._actor = actor

    def __getattr__(self, method: str) -> Any:
        called = getattr(self._actor, method)  # it begins at once, whoever waits for it
        return SimpleNamespace(remote=lambda *args: asyncio.ensure_future(called(*args)))


@asynccontextmanager
async def running(folder: Path, peer: ReplicaActor | None = None) -> AsyncIterator[ReplicaActor]:
    """An actor that was told to start, until it is stopped."""
    actor = ReplicaActor("memory:all#0", DOMAIN, VIEWS, "", None, Identity("", "", ""), str(folder))
    await actor.start(peer and Remote(peer))
    try:
        yield actor
    finally:
        await actor.stop()


async def status_until(actor: ReplicaActor, **wanted: Any) -> dict[str, Any]:
    """Wait until the actor's status has these values; return it."""
    async with asyncio.timeout(DEADLINE):
        while True:
            status = await actor.status()
            if wanted.items() <= status.items():
                return status
            await asyncio.sleep(0.01)


async def until(reached: Callable[[], bool]) -> None:
    """Wait until that is so."""
    async with asyncio.timeout(DEADLINE):
        while True:
            if reached():
                return
            await asyncio.sleep(0.01)


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


async def total_of(actor: ReplicaActor, counter: str) -> RowResult:
    [answer] = await actor._ask([("totals", counter, 0, {}, 0, None)])
    return RowResult(*answer)


async def test_a_disk_that_refuses_removals_does_not_end_a_replica(
    log: MemoryLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(log, "a", 1)
    await add(log, "b", 1)
    async with running(tmp_path) as actor:
        await status_until(actor, ready=True)
        assert actor._snapshots is not None
        await actor._snapshots.save(actor._replica)
        there = files(tmp_path)
        removed = asyncio.Event()
        with monkeypatch.context() as patch:

            def refuse(path: Path, missing_ok: bool = False) -> None:
                removed.set()
                raise OSError(30, "Read-only file system", str(path))

            patch.setattr(Path, "unlink", refuse)
            await log.delete_stream("counter-a")
            await asyncio.wait_for(removed.wait(), DEADLINE)
            await actor.rebuild("totals")
            await add(log, "b", 100)
            end = await log.end_position(["counter-"])
            assert await actor.reached(end, DEADLINE) >= end
            assert files(tmp_path) == there
        answer = await total_of(actor, "b")
        assert answer.body == b'{"counter":"b","total":101,"revision":1}'
        await until(lambda: files(tmp_path) == [])  # what is erased goes as soon as it can


def having(folder: Path, text: bytes) -> list[str]:
    """Return the views whose files have this text."""
    return [path.name.partition(".")[0] for path in files(folder) if text in path.read_bytes()]


async def test_rows_erased_at_a_peer_are_removed_from_the_files_of_its_copy(
    log: MemoryLog, tmp_path: Path
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    await add(log, "ada-secret", 42)
    await add(log, "b", 1)
    async with running(here) as actor:
        await status_until(actor, ready=True)
    assert len(having(here, b"ada-secret")) == len(VIEWS)
    await log.delete_stream("counter-ada-secret")  # while nothing runs here
    async with running(there) as peer:
        await status_until(peer, ready=True)
        async with running(here, peer) as actor:
            await status_until(actor, ready=True)
            assert having(here, b"ada-secret") == []
        assert len(files(here)) == len(VIEWS)  # left as it stopped, though it folded no event
        assert having(here, b"ada-secret") == []


async def test_rows_of_a_peer_that_are_not_json_are_folded_instead(
    log: MemoryLog, tmp_path: Path
) -> None:
    """Otherwise the copy would begin again and again, and no replica could be added."""
    await add(log, "a", 1)
    async with running(tmp_path / "there") as peer:
        await status_until(peer, ready=True)
        row = peer._replica.tables["totals"].rows["a"]
        no_json: Any = object()
        row.become(row.entry._replace(row=Totals.model_construct(counter="a", total=no_json)))
        async with running(tmp_path / "here", peer) as actor:
            await status_until(actor, ready=True)
            answer = await total_of(actor, "a")
    assert answer.body == b'{"counter":"a","total":1,"revision":0}'


async def test_rows_erased_right_before_the_end_are_removed_from_the_files(
    log: MemoryLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(log, "ada-secret", 42)
    await add(log, "b", 1)
    async with running(tmp_path) as actor:
        await status_until(actor, ready=True)
    monkeypatch.setattr(replica_actor, "COOL", 60.0)
    async with running(tmp_path) as actor:
        await status_until(actor, ready=True)
        monkeypatch.setattr(Totals, "broken", {7})  # of views with something parked none is written
        await add(log, "b", 7)
        await log.delete_stream("counter-ada-secret")
        end = await log.end_position(["counter-", "$$counter-"])
        assert await actor.reached(end, DEADLINE) >= end
        assert len(having(tmp_path, b"ada-secret")) == len(VIEWS)
    # A view that stopped holds back the deletion, too.
    assert having(tmp_path, b"ada-secret") == ["strict"]


async def test_a_replica_that_is_no_longer_wanted_leaves_no_files(
    log: MemoryLog, tmp_path: Path
) -> None:
    await add(log, "a", 1)
    async with running(tmp_path) as actor:
        await status_until(actor, ready=True)
        assert actor._snapshots is not None
        await actor._snapshots.save(actor._replica)
        assert len(files(tmp_path)) == len(VIEWS)
        await actor.forget_snapshots()
    assert files(tmp_path) == []


async def test_a_replica_that_no_longer_follows_the_log_is_not_ready(
    log: MemoryLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(log, "a", 1)
    async with running(tmp_path) as actor:
        await status_until(actor, ready=True)
        with monkeypatch.context() as patch:

            def break_off(*_: Any) -> None:
                raise RuntimeError("a mistake of ours")

            patch.setattr(Replica, "_has_folded", break_off)
            await add(log, "a", 2)
            status = await status_until(actor, started=False)
        assert (status["ready"], status["error"]) == (False, "RuntimeError: a mistake of ours")
        assert (await total_of(actor, "a")).late
        await actor.start(None)
        status = await status_until(actor, ready=True)
        assert "error" not in status
        answer = await total_of(actor, "a")
        assert (answer.body, answer.late) == (b'{"counter":"a","total":3,"revision":1}', False)


async def test_a_log_restored_under_a_running_replica_is_folded_again(
    log: MemoryLog, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await add(log, "a", 1, 100)
    async with running(tmp_path) as actor:
        await status_until(actor, ready=True)
        assert actor._snapshots is not None
        await actor._snapshots.save(actor._replica)
        restored = MemoryLog()
        await add(restored, "a", 1)
        await add(restored, "b", 1, 1)
        await add(restored, "a", 5)
        log.down = True
        log._announce()
        await until(lambda: "the subscription broke" in caplog.text)
        vars(log).update(vars(restored))
        status = await status_until(actor, started=False, ready=False)
        assert status["error"].startswith("LogChanged: ")
        assert files(tmp_path) == []
        await actor.start(None)
        await status_until(actor, ready=True)
        answer = await total_of(actor, "a")
        assert answer.body == b'{"counter":"a","total":6,"revision":1}'
    assert len(files(tmp_path)) == len(VIEWS)  # of the log as it is


async def test_a_rebuild_waits_until_a_replica_that_copies_a_peer_has_all_rows(
    log: MemoryLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica_actor, "COPIED", 1)
    for counter in "abcd":
        await add(log, counter, 1)
    async with running(tmp_path / "there") as peer:
        await status_until(peer, ready=True)
        copies, may_go_on = peer.copy, asyncio.Event()

        async def copy(name: str, view: str, start: int) -> Any:
            if start > 1:
                await may_go_on.wait()
            return await copies(name, view, start)

        monkeypatch.setattr(peer, "copy", copy)
        async with running(tmp_path / "here", peer) as actor:
            await until(lambda: len(actor._replica.tables["totals"].rows) == 2)
            rebuilding = asyncio.create_task(actor.rebuild("totals"))
            await a_while()
            may_go_on.set()
            await rebuilding
            await status_until(actor, ready=True)
            answers = [await total_of(actor, counter) for counter in "abcd"]
            assert all(answer.body is not None for answer in answers)


async def test_rows_that_wait_at_a_peer_wait_in_its_copy_too(
    log: MemoryLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Totals, "broken", {2})
    await add(log, "a", 1, 2, 3)
    async with running(tmp_path / "there") as peer:
        await status_until(peer, ready=True)
        Totals.broken.clear()  # all the same: the row lacks what came first
        async with running(tmp_path / "here", peer) as actor:
            await status_until(actor, ready=True)
            await add(log, "a", 4)
            end = await log.end_position(None)
            await until(lambda: actor._replica.progress.position >= end)
            assert (await total_of(actor, "a")).body == b'{"counter":"a","total":1,"revision":0}'
            assert [each.key for each in actor._replica.parked() if each.view == "totals"] == ["a"]


async def test_a_snapshot_written_in_pieces_is_of_the_moment_when_it_began(
    log: MemoryLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one piece, a million rows blocked all other answers, and the replica was replaced."""
    monkeypatch.setattr(replica_actor, "SNAPSHOT", 2)
    for number, counter in enumerate("abcdefg", 1):
        await add(log, counter, number)
    async with running(tmp_path) as actor:
        replica = actor._replica

        async def there() -> None:
            end = await log.end_position(None)
            await until(lambda: replica.position() == end)

        await there()
        asked = [RowQuery("balances", None, 0, {}, 100, None)]
        expected = replica.snapshot("balances", asked)
        handle = ReplicaHandle("memory:all#0", VIEWS, SimpleNamespace)
        meanwhile = iter(
            [
                lambda: add(log, "g", 1),  # changes
                lambda: add(log, "e", -5),  # goes
                lambda: add(log, "f", -6, 60),  # goes, and begins again
                lambda: add(log, "h", 8),  # begins
            ]
        )

        async def call(method: str, *asked: Any) -> Any:
            given = await getattr(actor, method)(*asked)
            if (change := next(meanwhile, None)) is not None:
                await change()
                await there()
            return given

        monkeypatch.setattr(handle, "_call", call)
        assert await handle.snapshot("balances", asked) == expected
        assert len(expected.rows) == 7
        assert replica.snapshot("balances", asked) != expected
        assert actor._copies == {}
        assert replica.tables["balances"]._moments == []
        await actor.begin_snapshot("given up", "balances", [])
        monkeypatch.setattr(replica_actor, "COPY_IDLE", -1.0)
        await actor.status()
        assert replica.tables["balances"]._moments == []


async def test_other_tasks_run_between_long_queries(
    log: MemoryLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica whose status does not answer for some seconds counts as hanging."""
    async with running(tmp_path) as actor:
        await until(actor._replica.caught_up.is_set)
        began, said = list[str](), list[int]()

        def slow(query: RowQuery) -> RowResult:
            began.append(query.view)
            until = time.monotonic() + 0.004
            while time.monotonic() < until:
                pass
            return RowResult(None, None, 0)

        async def asked() -> None:
            await actor.status()
            said.append(len(began))

        monkeypatch.setattr(actor._replica, "_told", slow)
        asking = asyncio.ensure_future(actor._ask([("totals", "a", 0, {}, 0, None)] * 8))
        other = asyncio.ensure_future(asked())
        await asyncio.gather(asking, other)
        assert len(began) == 8
        assert said[0] < 8
