"""Redis as it fails: away, emptied, full, evicting, restored to an earlier moment."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop
from redis.crc import key_slot

from eventstore.memory import MemoryLog
from projections.errors import BeingBuilt, ReadStoreUnavailable
from projections.redis import generations as generations_module
from projections.redis import queries as queries_module
from projections.redis import rows as rows_module
from projections.redis import server as server_module
from projections.redis import writer as writer_module
from projections.redis.scripts import HOLD, POINT
from projections.redis.server import Server, answering
from projections.redis.store import RedisStore
from projections.stores import runner
from projections.stores.port import Place
from tests.contract.stores.checks import differences
from tests.contract.stores.questions import ids, one, page
from tests.contract.stores.shelf import Painted, Put, Taken, registry_for, write
from tests.contract.stores.subjects import TIMEOUT, Durable, running
from tests.redis_server import RedisServer

SOME = [Put(id=f"{at}", name=f"n{at % 2}", size=at) for at in range(6)]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What breaks is tried again at once, and what is lost is noticed at once."""
    monkeypatch.setattr(runner, "RETRY", 0.01)
    monkeypatch.setattr(writer_module, "LOOK", 0.02)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """One that is harmed."""
    with RedisServer() as running:
        yield running


def kept_in(server: RedisServer, stack: str = "one") -> Durable:
    registry = registry_for("redis")
    return Durable(MemoryLog(), registry, lambda: RedisStore(registry, Place(server.url, stack)))


async def until(condition: Callable[[], Any]) -> None:
    """Return when it holds."""
    async with asyncio.timeout(TIMEOUT):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def live_in(server: RedisServer) -> bytes | None:
    """The live generation of the shelf; None for a moment after it is lost."""
    with server.client as client:
        found: bytes | None = client.hget("rayfold:{one/shelf}", "live")
        return found


def has(server: RedisServer, key: bytes) -> bool:
    with server.client as client:
        return bool(client.exists(key))


@asynccontextmanager
async def asked(store: Durable, end: int) -> AsyncIterator[dict[str, int]]:
    """Readers who ask all the while: the row is there, whole, or nobody says anything."""
    counts = {"answers": 0, "refusals": 0}
    stop = asyncio.Event()

    async def read() -> None:
        while not stop.is_set():
            try:
                answer = await store.ask(one("0"), timeout=0)
                listed = await ids(store, page(name="n0"))
            except ReadStoreUnavailable:
                counts["refusals"] += 1
                await asyncio.sleep(0.002)
                continue
            assert answer.body is not None, "a lost row must not be answered as missing"
            assert answer.position >= end, "a lost row must not be answered with an older state"
            assert listed[:3] == ["0", "2", "4"]
            counts["answers"] += 1
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as reading:  # what one finds wrong ends the test
        for _ in range(3):
            reading.create_task(read())
        yield counts
        stop.set()


async def test_an_emptied_server_is_noticed_and_filled_and_nothing_is_missing_meanwhile(
    server: RedisServer,
) -> None:
    store = kept_in(server)
    async with running(store, 2):
        end = await write(store.log, *SOME)
        await store.reached(end)
        async with asked(store, end) as counts:
            for _ in range(3):
                before = live_in(server)
                server.flush()
                await until(lambda before=before: live_in(server) not in (None, before))
                answers = counts["answers"]
                await until(lambda answers=answers: counts["answers"] > answers + 3)
        await store.reached(await write(store.log, Painted(id="0", colour="red")))
        assert await differences(store.log, store) == []


async def test_an_emptied_server_answers_with_a_token_when_it_is_filled(
    server: RedisServer,
) -> None:
    store = kept_in(server)
    async with running(store):
        end = await write(store.log, *SOME)
        await store.reached(end)
        server.flush()
        answer = await store.ask(one("3", end))
        assert answer.body is not None
        assert answer.position >= end


async def test_a_server_that_forgot_everything_while_it_was_away(server: RedisServer) -> None:
    store = kept_in(server)
    async with running(store):
        await store.reached(await write(store.log, *SOME))
        server.kill()
        [projector] = store.projectors
        await until(lambda: projector.runner.error)
        assert not projector.status()["ready"]
        with pytest.raises(ReadStoreUnavailable, match="does not answer"):
            await store.ask(one("0"), timeout=0)
        end = await write(store.log, Painted(id="0", colour="red"))
        await asyncio.to_thread(server.start)
        assert json.loads((await store.ask(one("0", end))).body or b"")["painted"] == 1
        await store.reached(end)
        await until(lambda: projector.status()["ready"])
        assert await differences(store.log, store) == []


async def test_a_server_that_is_away_at_the_start_is_waited_for(server: RedisServer) -> None:
    store = kept_in(server)
    server.kill()
    end = await write(store.log, *SOME)
    [projector] = store.begin()
    await until(lambda: projector.runner.error)
    assert "connect" in str(projector.runner.error).lower()
    await asyncio.to_thread(server.start)
    assert len(await ids(store, page(end))) == len(SOME)
    await store.close()


async def test_after_a_restore_to_an_earlier_moment_redis_is_folded_from_there(
    server: RedisServer,
) -> None:
    store = kept_in(server)
    async with running(store):
        await store.reached(await write(store.log, *SOME, Painted(id="0", colour="red")))
        with server.client as client:
            client.save()
        await write(store.log, Painted(id="0", colour="blue"), Taken(id="1"))
        end = await write(store.log, Put(id="9", name="n1"))
        await store.reached(end)
        await server.restart()
        assert json.loads((await store.ask(one("0", end))).body or b"")["painted"] == 2
        await store.reached(await write(store.log, Painted(id="0", colour="green")))
        assert await differences(store.log, store) == []


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-random"])
async def test_a_server_that_evicts_rows_is_refused_and_the_message_says_what_to_do(
    server: RedisServer, policy: str
) -> None:
    server.set(maxmemory_policy=policy)
    store = kept_in(server)
    with pytest.raises(ReadStoreUnavailable, match="maxmemory-policy"):
        await store.start()
    end = await write(store.log, *SOME)
    [projector] = store.begin()
    await until(lambda: projector.runner.error)
    assert f"evicts rows ({policy})" in str(projector.status()["error"])
    server.set(maxmemory_policy="noeviction")
    assert (await store.ask(one("0", end))).body is not None
    await store.close()


@pytest.mark.parametrize("part", ["rows", "all", "by:0", "meta"])
async def test_a_partial_eviction_is_noticed_and_the_view_is_folded_again(
    server: RedisServer, part: str
) -> None:
    store = kept_in(server)
    async with running(store):
        end = await write(store.log, *SOME)
        await store.reached(end)
        async with asked(store, end) as counts:
            with server.client as client:
                [key] = [each for each in client.keys("*shelf@*") if each.endswith(part.encode())]
                before = live_in(server)
                client.delete(key)
            await until(lambda: live_in(server) != before or has(server, key))
            answers = counts["answers"]
            await until(lambda: counts["answers"] > answers + 3)
        await store.reached(await write(store.log, Painted(id="0", colour="red")))
        assert await differences(store.log, store) == []


@pytest.mark.parametrize("value", [b"", b"no row \xff", b"0 0 x\n{}"])
async def test_a_value_that_somebody_else_wrote_is_a_difference(
    server: RedisServer, value: bytes
) -> None:
    store = kept_in(server)
    async with running(store):
        await store.reached(await write(store.log, *SOME))
        with server.client as client:
            [rows] = [each for each in client.keys("*shelf@*") if each.endswith(b":rows")]
            client.hset(rows, "0", value)
        [told] = await differences(store.log, store)
    assert (told.key, told.found) == ("0", value.decode(errors="replace"))


async def test_a_full_server_is_reported_and_the_projector_continues_when_there_is_room(
    server: RedisServer,
) -> None:
    store = kept_in(server)
    async with running(store):
        end = await write(store.log, *SOME)
        await store.reached(end)
        with server.client as client:
            used = client.info("memory")["used_memory"]
        server.set(maxmemory=str(used))
        end = await write(store.log, *(Put(id=f"{at}", name="x" * 9_000) for at in range(50, 99)))
        [projector] = store.projectors
        await until(lambda: projector.runner.error)
        assert "maxmemory" in str(projector.status()["error"])
        assert (await store.ask(one("0"))).body is not None, "it must show the rows that it has"
        server.set(maxmemory="0")
        await store.reached(end)
        assert await differences(store.log, store) == []


async def test_a_row_that_is_too_large_is_parked_and_its_size_is_given(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "MAX_ROW", 1_000)
    store = kept_in(server)
    async with running(store):
        end = await write(store.log, Put(id="a", name="x" * 2_000), Put(id="b", name="tea"))
        await store.reached(end)
        [parked] = store.parked()
        assert (parked.key, parked.by_store) == ("a", True)
        assert "Redis is given 1000 at most" in parked.error
        assert (await store.ask(one("b", end))).body is not None


async def test_an_unfinished_switch_blocks_writers_for_a_while_only(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = kept_in(server)
    async with running(store):
        await store.reached(await write(store.log, *SOME))
        kept: Any = store.store
        view = store.registry.views["shelf"]
        keys = kept.generations.keys_of(view, await kept.generations.live(view))
        began = time.monotonic()
        await kept._server.run(HOLD, [keys.meta, keys.hold], ["somebody", 300])
        end = await write(store.log, Painted(id="0", colour="red"))
        await store.reached(end)
        assert time.monotonic() - began > 0.2
        assert not store.projectors[0].runner.error
        assert await differences(store.log, store) == []


async def test_an_interrupted_switch_leaves_no_keys_behind(server: RedisServer) -> None:
    store = kept_in(server)
    async with running(store):
        await store.reached(await write(store.log, *SOME))
        await store.end()
        kept: Any = store.store
        view = store.registry.views["shelf"]
        pointer = await kept.generations.pointer(view)
        built = await kept.generations.begin(view)
        told = [pointer.live, built, pointer.fingerprint, 1]
        await kept._server.run(POINT, [generations_module.pointer_of("one", "shelf")], told)
        assert await kept.generations.prepare(store.views, {"shelf": 1, "colours": 1}) == []
        with server.client as client:
            found = {key.decode() for key in client.keys("*shelf@*")}
        assert {key.partition("@")[2].partition("}")[0] for key in found} == {built}


async def test_all_keys_that_one_step_changes_are_in_one_slot_of_a_cluster(
    server: RedisServer,
) -> None:
    store = kept_in(server, "a-stack")
    kept: Any = store.store
    for view in store.views:
        keys = kept.generations.keys_of(view, "abc")
        assert len({key_slot(key.encode()) for key in keys.whatever}) == 1
    await store.close()


async def test_two_stacks_in_one_server_are_separate(server: RedisServer) -> None:
    one_stack, other = kept_in(server, "one"), kept_in(server, "other")
    async with running(one_stack), running(other):
        first = await write(one_stack.log, Put(id="a", name="tea"))
        second = await write(other.log, Put(id="a", name="coffee"))
        assert b"tea" in ((await one_stack.ask(one("a", first))).body or b"")
        assert b"coffee" in ((await other.ask(one("a", second))).body or b"")


async def test_a_view_that_was_never_built_is_not_reported_as_lost(server: RedisServer) -> None:
    store = kept_in(server)
    with pytest.raises(BeingBuilt):
        await store.ask(one("a"), timeout=0)
    await store.start()
    await store.end()
    await store.close()
    other = kept_in(server, "nobody")
    with pytest.raises(BeingBuilt):
        await other.ask(page(), timeout=0)
    with pytest.raises(BeingBuilt):
        await other.snapshot("shelf", [])
    await other.close()


async def test_a_query_with_several_filters_that_few_rows_match_takes_several_steps(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projections.redis.queries.LOOKED_AT", 7)
    store = kept_in(server)
    things = [
        Put(id=f"{at:03d}", name="n", colour="c" if at % 25 == 0 else "d") for at in range(99)
    ]
    async with running(store):
        await write(store.log, *things)
        end = await write(store.log, *(Put(id=f"x{at}", name="m", colour="c") for at in range(9)))
        found = await ids(store, page(end, 2, name="n", colour="c"))
        assert found == ["000", "025", "050", "075"]
        assert await ids(store, page(end, 3, name="n", colour="d")) == [
            each.id for each in things if each.colour == "d"
        ]


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "redis://127.0.0.1:1/0", "nonsense"])
async def test_no_redis_at_that_address_is_said_in_one_line(url: str) -> None:
    registry = registry_for("redis")
    store = RedisStore(registry, Place(url, "one"))
    with pytest.raises(ReadStoreUnavailable, match="Redis"):
        await store.generations.prepare(list(registry.views.values()), {"shelf": 1, "colours": 1})
    await store.close()


def test_a_connection_that_was_reset_while_it_was_idle_is_an_outage(server: RedisServer) -> None:
    """Gateways run on uvloop, which raises another error for it."""
    passing: list[asyncio.StreamWriter] = []

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passing.append(writer)
        there, to = await asyncio.open_unix_connection(server.url.removeprefix("unix://"))
        await asyncio.gather(copy(reader, to), copy(there, writer))

    def reset() -> None:
        for each in passing:
            told = struct.pack("ii", 1, 0)  # it does not say goodbye
            each.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, told)
            each.transport.abort()

    async def asked() -> None:
        relay = await asyncio.start_server(pass_on, "127.0.0.1", 0)
        asking = Server(f"redis://127.0.0.1:{relay.sockets[0].getsockname()[1]}")
        await asking.ask(asking.client.ping())
        [idle] = asking.client.connection_pool._available_connections
        reset()
        await until(idle._writer.transport.is_closing)
        with pytest.raises(ReadStoreUnavailable, match="does not answer"), answering():
            await asking.ask(asking.client.ping())
        assert await asking.ask(asking.client.ping())
        await asking.close()
        relay.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asked())


async def test_a_silent_server_is_reported(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "TIMEOUT", 0.2)
    asking = Server(server.url)
    with server.client as client:
        client.execute_command("CLIENT", "PAUSE", 60_000)
    with pytest.raises(ReadStoreUnavailable, match=r"no answer in 0\.2 s"), answering():
        await asking.ask(asking.client.get("a"))
    await asking.close()


async def test_hundreds_of_queries_at_once_are_answered_over_few_connections(
    server: RedisServer,
) -> None:
    store = kept_in(server)
    async with running(store):
        end = await write(store.log, *SOME)
        await store.reached(end)
        await store.ask(one("0", end))  # so it answers by now
        await store.end()  # whose connections come and go
        reader = RedisStore(store.registry, Place(server.url, "one"))
        with server.client as client:
            before = client.info("clients")["connected_clients"]
            # Nobody knows yet which generation is live: all of them find out at the same time.
            found = await asyncio.gather(*(reader.find(one(f"{at % 6}")) for at in range(300)))
            connections = client.info("clients")["connected_clients"] - before
        await reader.close()
    assert [json.loads(each.result.body or b"")["id"] for each in found] == [
        f"{at % 6}" for at in range(300)
    ]
    assert connections <= queries_module.IN_FLIGHT


async def test_a_query_that_waits_for_a_connection_is_not_refused(server: RedisServer) -> None:
    asking = Server(server.url)
    answers = await asyncio.gather(*(asking.ask(asking.client.ping()) for _ in range(300)))
    with server.client as client:
        connections = client.info("clients")["connected_clients"] - 1
    await asking.close()
    assert answers == [True] * 300
    assert connections <= server_module.CONNECTIONS
