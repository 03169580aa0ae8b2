"""A memory replica that starts from a snapshot: it folds each event exactly once."""

from __future__ import annotations

import asyncio
import tempfile
import tracemalloc
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventstore.memory import MemoryLog
from projections.memory import snapshot_file
from projections.memory import snapshots as module
from projections.memory.bootstrap import Filled
from projections.memory.replica import Replica
from projections.memory.snapshots import Snapshots
from rayfold import Registry
from rayfold.runtime.identity import Identity
from tests.integration.projections import small
from tests.integration.projections.histories import BadLog, commands, history_of
from tests.integration.projections.small import add
from tests.integration.projections.test_bootstrap import totals
from tests.integration.projections.test_deliveries import plainly, until
from tests.integration.projections.test_poison import DEADLINE, broken
from tests.own_loop import own_loop

REGISTRY = Registry([small])
NAMES = ["totals", "balances", "strict"]
OURS = Identity("stack-1", "store-1", "")

__all__ = ["broken"]


def of(folder: Path, identity: Identity = OURS, registry: Registry = REGISTRY) -> Snapshots:
    """Return the snapshots of all views of the small domain."""
    return Snapshots(folder, registry, identity, [*registry.views], "memory:all#0")


def files(folder: Path, pattern: str = "*") -> list[Path]:
    return sorted(folder.glob(pattern))


async def follow(replica: Replica, end: int) -> None:
    """Let the replica come to this position, and stop it there."""
    task = asyncio.create_task(replica.run())
    try:
        assert await replica.progress.reached(end, DEADLINE)
        await asyncio.wait_for(replica.caught_up.wait(), DEADLINE)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def begun(log: Any, filled: list[Filled]) -> Replica:
    """Return a replica that began with these, at the log's end."""
    replica = Replica(REGISTRY, NAMES, log)
    await replica.begin(filled)
    await follow(replica, await log.end_position(["counter-"]))
    return replica


def before_frame(number: int, happens: Callable[[], Awaitable[None]]) -> Callable[..., None]:
    """Return what writes frames, and lets something happen before one of them is on the disk."""
    loop, put, numbers = asyncio.get_running_loop(), snapshot_file.put, count(1)

    async def happen() -> None:
        await happens()

    def put_later(file: Any, content: Any) -> None:
        if next(numbers) == number:
            asyncio.run_coroutine_threadsafe(happen(), loop).result(DEADLINE)
        put(file, content)

    return put_later


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    done=st.lists(commands, max_size=40),
    stop=st.integers(0, 60),
    moved=st.integers(0, 60),
    overlap=st.integers(0, 5),
)
def test_a_replica_started_from_a_snapshot_has_what_a_plain_fold_gives(
    registry: Registry, done: list[Any], stop: int, moved: int, overlap: int
) -> None:
    """The replica goes on folding while its rows are written one by one."""
    history = history_of(done)
    end = history[-1].position if history else 0
    views = [view for view in registry.views.values() if "memory" in view.stores]
    names = [view.name for view in views]

    async def begin(folder: Path) -> Replica:
        kept = Snapshots(folder, registry, OURS, names, "memory:all#0")
        half = history[:stop]
        replica = Replica(registry, names, BadLog(half, [], 0))
        middle = half[-1].position if half else 0
        await until(replica.progress, middle, [asyncio.create_task(replica.run())])
        later = history[: stop + moved]
        replica._log = BadLog(later, [], 0)
        there = later[-1].position if later else 0
        await asyncio.gather(
            kept.save(replica),
            until(replica.progress, there, [asyncio.create_task(replica.run())]),
        )
        log = BadLog(history, [], overlap)
        filled = await kept.load(log)
        assert len(filled) == len(names) if half else len(filled) in (0, len(names))
        again = Replica(registry, names, log)
        await again.begin(filled)
        await until(again.progress, end, [asyncio.create_task(again.run())])
        return again

    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(module, "ROWS", 1)
        replica = asyncio.run(begin(Path(folder)))
    for view in views:
        found = {key: body for key, body, _ in replica.rows(view.name)}
        assert found == plainly(registry, view, history)
        pages, _ = replica.tables[view.name].page({}, 200, None)
        assert all(body in pages for body in found.values())


async def test_only_events_after_the_snapshot_are_folded(tmp_path: Path) -> None:
    log = MemoryLog()
    await add(log, "a", 1, 2)
    await add(log, "b", 5)
    await of(tmp_path).save(await begun(log, []))
    await add(log, "a", 4)
    replica = await begun(log, await of(tmp_path).load(log))
    assert totals(replica) == {"a": 7, "b": 5}
    assert replica.status()["events"] == 1


async def test_a_row_removed_while_the_snapshot_is_written_does_not_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROWS", 1)
    log = MemoryLog()
    await add(log, "a", 1)
    await add(log, "b", 1)
    replica = await begun(log, [])

    async def both_go() -> None:
        await add(log, "a", -1)  # folded onto no row, it would make one
        await add(log, "b", -1)
        await follow(replica, await log.end_position(["counter-"]))

    # After the head comes a's row; b's is not exported yet.
    monkeypatch.setattr(snapshot_file, "put", before_frame(2, both_go))
    kept = Snapshots(tmp_path, REGISTRY, OURS, ["balances"], "memory:all#0")
    await kept.save(replica)
    again = await begun(log, await kept.load(log))
    assert totals(again, "balances") == {}
    assert again.tables["balances"].page({"total": "1"}, 10, None)[1] == []


async def one_kept(folder: Path) -> tuple[MemoryLog, Snapshots, Path]:
    """Return a log, the snapshots of one view of it, and that view's file."""
    log = MemoryLog()
    await add(log, "a", 1, 2)
    kept = Snapshots(folder, REGISTRY, OURS, ["totals"], "memory:all#0")
    await kept.save(await begun(log, []))
    [path] = files(folder)
    return log, kept, path


async def test_a_damaged_file_is_ignored(tmp_path: Path) -> None:
    log, kept, path = await one_kept(tmp_path)
    whole = path.read_bytes()
    assert len(await kept.load(log)) == 1
    for at in range(len(whole)):
        path.write_bytes(whole[:at])
        assert await kept.load(log) == []
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        assert await kept.load(log) == [], at
        path.write_bytes(whole[:at] + b"\0" * (len(whole) - at + 1))  # blocks never written
        assert await asyncio.wait_for(kept.load(log), DEADLINE) == [], at
    path.write_bytes(whole + b"more")
    assert await kept.load(log) == []


async def test_a_damaged_size_does_not_allocate_memory(tmp_path: Path) -> None:
    log, kept, path = await one_kept(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(b"\xff" + whole[1:])
    tracemalloc.start()
    try:
        assert await kept.load(log) == []
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**20


async def test_a_snapshot_of_another_stack_store_domain_or_log_is_not_used(tmp_path: Path) -> None:
    log = MemoryLog()
    await add(log, "a", 1, 2)
    await of(tmp_path).save(await begun(log, []))
    assert await of(tmp_path, Identity("stack-2", "store-1", "")).load(log) == []
    assert await of(tmp_path, Identity("stack-1", "store-2", "")).load(log) == []
    assert await of(tmp_path, OURS, Registry.load("domain")).load(log) == []
    other = MemoryLog()  # the same positions, another past
    await add(other, "a", 1, 3)
    assert await of(tmp_path).load(other) == []
    shorter = MemoryLog()  # restored to a moment before
    await add(shorter, "a", 1)
    assert await of(tmp_path).load(shorter) == []


async def test_a_snapshot_is_not_used_if_the_log_lost_events_folded_while_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = MemoryLog()
    await add(log, "a", 1)
    replica = await begun(log, [])

    async def more() -> None:
        await add(log, "a", 100)
        await follow(replica, await log.end_position(["counter-"]))

    monkeypatch.setattr(snapshot_file, "put", before_frame(1, more))
    kept = Snapshots(tmp_path, REGISTRY, OURS, ["totals"], "memory:all#0")
    await kept.save(replica)
    restored = MemoryLog()  # to the moment at which the snapshot was begun; it grew since
    await add(restored, "a", 1)
    await add(restored, "b", 1)
    await add(restored, "a", 5)
    assert totals(await begun(restored, await kept.load(restored))) == {"a": 6, "b": 1}


async def test_the_last_snapshot_before_an_event_was_parked_is_kept(
    tmp_path: Path, broken: set[int]
) -> None:
    log = MemoryLog()
    await add(log, "a", 1)
    replica = await begun(log, [])
    kept = of(tmp_path)
    await kept.save(replica)
    broken.add(7)
    await add(log, "a", 7)
    await add(log, "a", 1)
    await follow(replica, await log.end_position(["counter-"]))
    await kept.save(replica)
    again = await begun(log, await of(tmp_path).load(log))
    assert [(each.view, each.key) for each in again.parked()] == [("strict", "a"), ("totals", "a")]
    broken.clear()  # mended, and started again: as if there were no snapshots
    assert totals(await begun(log, await of(tmp_path).load(log))) == {"a": 9}


async def test_an_event_that_parks_a_row_while_another_view_is_written_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: set[int]
) -> None:
    broken.add(7)
    log = MemoryLog()
    await add(log, "a", 1)
    replica = await begun(log, [])

    async def poison() -> None:
        await add(log, "a", 7)
        await add(log, "a", 1)
        await follow(replica, await log.end_position(["counter-"]))

    monkeypatch.setattr(snapshot_file, "put", before_frame(2, poison))
    kept = Snapshots(tmp_path, REGISTRY, OURS, ["balances", "totals"], "memory:all#0")
    await kept.save(replica)
    again = await begun(log, await kept.load(log))
    assert [(each.view, each.key) for each in again.parked()] == [("strict", "a"), ("totals", "a")]
    broken.clear()
    assert totals(await begun(log, await kept.load(log))) == {"a": 9}


@own_loop
async def test_erased_rows_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = MemoryLog()
    await add(log, "a", 1)
    replica = await begun(log, [])
    kept = of(tmp_path)
    await kept.save(replica)
    before = files(tmp_path)
    await log.delete_stream("counter-a")
    await add(log, "b", 1)
    await follow(replica, await log.end_position(["counter-", "$$counter-"]))
    for view in replica.take_erased():
        kept.forget(view)
    assert files(tmp_path) == []
    assert not kept.due(replica)
    monkeypatch.setattr(module.time, "monotonic", lambda: 1e12)
    assert kept.due(replica)
    await kept.save(replica)
    assert files(tmp_path) == before
    assert totals(await begun(log, await of(tmp_path).load(log))) == {"b": 1}


async def test_files_that_will_not_be_read_again_are_removed_at_a_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = MemoryLog()
    await add(log, "a", 1)
    replica = await begun(log, [])
    await of(tmp_path, Identity("stack-2", "store-1", "")).save(replica)
    elsewhere = files(tmp_path)
    await of(tmp_path).save(replica)
    [totals_file] = {*files(tmp_path, "totals.*")} - {*elsewhere}
    (tmp_path / f"{totals_file.name}.{of(tmp_path)._owner}").write_text("it was killed")
    (tmp_path / f"{totals_file.name}.of-another").write_text("it is being written")
    with monkeypatch.context() as patch:
        patch.setattr(module, "domain_hash", lambda registry: "of the release before")
        await of(tmp_path).save(replica)
    views, others = ["totals"], ["totals", "balances"]  # strict is in Postgres now
    kept = Snapshots(tmp_path, REGISTRY, OURS, views, "memory:all#0", others=others)
    kept.tidy()
    left = [path.name for path in files(tmp_path) if path not in elsewhere]
    assert [name.partition(".")[0] for name in left] == ["balances", "balances", "totals", "totals"]
    assert totals_file.name in left
    assert f"{totals_file.name}.of-another" in left
    assert {*elsewhere} <= {*files(tmp_path)}


async def test_erased_rows_are_removed_from_the_files_of_all_releases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = MemoryLog()
    await add(log, "a", 1)
    replica = await begun(log, [])
    await of(tmp_path).save(replica)
    with monkeypatch.context() as patch:
        patch.setattr(module, "domain_hash", lambda registry: "of the release before")
        await of(tmp_path).save(replica)
    for view in NAMES:
        assert of(tmp_path).forget(view)
    assert files(tmp_path) == []


async def test_a_release_that_stops_does_not_touch_the_files_of_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = MemoryLog()
    await add(log, "a", 1)
    replica = await begun(log, [])
    await of(tmp_path).save(replica)
    await add(log, "a", 1)
    await follow(replica, await log.end_position(["counter-"]))
    with monkeypatch.context() as patch:
        patch.setattr(module, "domain_hash", lambda registry: "of the release before")
        await of(tmp_path).save(replica)
    assert len(await of(tmp_path).load(log)) == len(NAMES)


async def test_a_missing_snapshot_is_written_while_the_replica_is_idle(tmp_path: Path) -> None:
    log = MemoryLog()
    await add(log, "a", 1)
    await of(tmp_path).save(await begun(log, []))
    whole = {path: path.stat().st_mtime_ns for path in files(tmp_path)}
    [damaged] = files(tmp_path, "totals.*")
    damaged.write_bytes(b"")
    kept = of(tmp_path)
    replica = await begun(log, await kept.load(log))
    assert kept.forget("strict")  # one was erased, say: the replica itself has folded nothing
    [forgotten] = {*whole} - {*files(tmp_path), damaged}
    await kept.save(replica)
    assert {*files(tmp_path)} == {*whole}
    changed = {path for path, at in whole.items() if path.stat().st_mtime_ns != at}
    assert changed == {damaged, forgotten}
    assert len(await kept.load(log)) == len(NAMES)


async def test_a_full_disk_harms_no_replica(tmp_path: Path) -> None:
    log = MemoryLog()
    await add(log, "a", 1)
    (tmp_path / "file").write_text("")
    kept = of(tmp_path / "file")
    await kept.save(await begun(log, []))
    with pytest.raises(NotADirectoryError):
        (tmp_path / "file" / "x").read_bytes()
    assert await kept.load(log) == []


async def test_a_row_removed_while_a_peer_copies_it_does_not_come_back() -> None:
    log = MemoryLog()
    await add(log, "a", 1)
    await add(log, "b", 1)
    peer = await begun(log, [])
    position, keys, parked, stopped = peer.begin_copy()
    new = Replica(REGISTRY, NAMES, log)
    for view, [first, _] in keys.items():
        new.tables[view].fill(peer.tables[view].export([first]))
    await add(log, "a", -1)
    await add(log, "b", -1)
    await follow(peer, await log.end_position(["counter-"]))
    for view, [_, second] in keys.items():
        new.tables[view].fill(peer.tables[view].export([second]))
    gone = {view: table.end_copy() for view, table in peer.tables.items()}
    new.take_over(position, gone, parked, stopped, peer.last)
    await follow(new, await log.end_position(["counter-"]))
    assert totals(new, "balances") == {}
    assert totals(new) == {"a": 0, "b": 0}
    assert peer.tables["balances"].begin_copy() == []
    assert peer.tables["balances"].end_copy() == {}  # nothing is remembered for longer


async def test_a_parked_row_whose_stream_is_deleted_while_a_peer_copies_it_can_begin_again(
    broken: set[int],
) -> None:
    broken.add(7)
    log = MemoryLog()
    await add(log, "a", 1, 7)
    peer = await begun(log, [])
    position, keys, parked, stopped = peer.begin_copy()
    new = Replica(REGISTRY, NAMES, log)
    for view, rows in keys.items():
        new.tables[view].fill(peer.tables[view].export(rows))
    await log.delete_stream("counter-a")
    await follow(peer, await log.end_position(["counter-", "$$counter-"]))
    gone = {view: table.end_copy() for view, table in peer.tables.items()}
    new.take_over(position, gone, parked, stopped, peer.last)
    await add(log, "a", 5)
    for replica in (peer, new):
        await follow(replica, await log.end_position(["counter-", "$$counter-"]))
        assert totals(replica) == {"a": 5}
        assert [each.view for each in replica.parked()] == ["strict"]
