"""A cluster of three: what the client and our adapter make of followers, elections and losses.

The nodes are played by one process over one store, so nothing here is about replication.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, suppress
from pathlib import Path
from uuid import uuid4

import pytest
from kurrentdbclient import KurrentDBClient, StreamState
from kurrentdbclient.exceptions import GrpcError, NodeIsNotLeaderError

from eventstore.embedded.cluster.roles import Node
from eventstore.embedded.cluster.server import PlayedCluster
from eventstore.errors import StoreUnavailable
from eventstore.kurrentdb.log import EventLog
from eventstore.kurrentdb.persistent_subscriptions import PersistentSubscriptions
from eventstore.port import Appended, StreamAppend
from eventstore.records import NewRecord
from tests.contract.eventstore.cluster_process import ClusterProcess
from tests.contract.eventstore.making import event, events

ANY = StreamState.ANY

PATIENCE = 60.0
"""Seconds for what takes some; what it took is printed."""

ROUNDS = int(os.environ.get("RAYFOLD_CLUSTER_ROUNDS", "3"))
"""Changes of the leader under load."""

AWAY = float(os.environ.get("RAYFOLD_CLUSTER_AWAY", "2"))
"""Seconds without any node."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ClusterProcess]:
    process = ClusterProcess(tmp_path / "store")
    yield process
    process.stop()


@pytest.fixture
async def open_log(cluster: ClusterProcess) -> AsyncIterator[Callable[..., EventLog]]:
    opened: list[EventLog] = []

    def begin(uri: str | None = None, *, atomic: bool | None = None) -> EventLog:
        opened.append(EventLog(uri or cluster.uri, atomic=atomic))
        return opened[-1]

    yield begin
    for log in opened:
        await log.close()


def one(stream: str, expected: int | None, record_id: str | None = None) -> StreamAppend:
    record = NewRecord("Counted", b"{}", {"by": "me"}, record_id or str(uuid4()))
    return StreamAppend(stream, expected, [record])


async def until(reached: Callable[[], bool]) -> None:
    """Wait for what others do."""
    async with asyncio.timeout(PATIENCE):
        while not reached():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


# The client, as anybody uses it.


def test_a_follower_names_the_leader(cluster: ClusterProcess, name: str) -> None:
    leader, follower, _ = cluster.targets
    with KurrentDBClient(f"kdb://{follower}?Tls=false") as client:
        for call in (
            lambda: client.append_to_stream(name, current_version=ANY, events=event()),
            lambda: client.append_to_stream(name, current_version=ANY, events=events(2)),
            lambda: client.append_records([]),
            lambda: client.delete_stream(name, current_version=ANY),
            lambda: client.get_stream(name),
            lambda: client.create_subscription_to_all("g"),
        ):
            with pytest.raises(NodeIsNotLeaderError) as refused:
                call()
            assert f"{refused.value.host}:{refused.value.port}" == leader
        assert len(client.read_gossip()) == 3


def test_a_follower_serves_readers_who_do_not_ask_for_the_leader(
    cluster: ClusterProcess, name: str
) -> None:
    with KurrentDBClient(cluster.uri) as writer:
        writer.append_to_stream(name, current_version=ANY, events=event())
    with KurrentDBClient(f"{cluster.uri}&NodePreference=follower") as reader:
        assert reader.connection_target in cluster.targets[1:]
        assert len(reader.get_stream(name)) == 1
        with pytest.raises(NodeIsNotLeaderError):
            reader.append_to_stream(name, current_version=ANY, events=event())


def test_the_client_follows_the_leader(cluster: ClusterProcess, name: str) -> None:
    with KurrentDBClient(cluster.uri) as client:
        for number in (1, 2, 0):
            cluster.do(f"lead {number}")
            client.append_to_stream(name, current_version=ANY, events=event())
            assert client.connection_target == cluster.targets[number]
    with KurrentDBClient(cluster.uri) as client:
        cluster.do("away 0")
        cluster.do("elect")
        with pytest.raises(GrpcError):
            client.append_to_stream(name, current_version=ANY, events=event())


# Our adapter.


@pytest.mark.parametrize("atomic", [None, False], ids=["append_records", "older server"])
async def test_appends_under_load_survive_changes_of_the_leader(
    cluster: ClusterProcess, open_log: Callable[..., EventLog], atomic: bool | None
) -> None:
    """Each writer appends numbers to a stream of its own, and knows which were acknowledged."""
    log = open_log(atomic=atomic)
    acknowledged: dict[str, list[str]] = {f"count-{number}": [] for number in range(16)}
    ending = asyncio.Event()
    longest = 0.0

    async def write(stream: str) -> None:
        nonlocal longest
        done = acknowledged[stream]
        while not ending.is_set():
            record_id = str(uuid4())
            began = time.monotonic()
            [answer] = await log.append([one(stream, len(done) - 1 if done else None, record_id)])
            assert isinstance(answer, Appended), answer
            longest = max(longest, time.monotonic() - began)
            done.append(record_id)

    async with asyncio.timeout(PATIENCE + 5 * ROUNDS), asyncio.TaskGroup() as group:
        for stream in acknowledged:
            group.create_task(write(stream))
        for turn in range(ROUNDS):
            before = {stream: len(done) for stream, done in acknowledged.items()}
            await asyncio.to_thread(cluster.do, f"away {turn % 3}" if turn % 2 else "elect")
            if turn % 2:
                await asyncio.to_thread(cluster.do, "elect")
            await asyncio.sleep(0.5)  # an election takes a while
            await asyncio.to_thread(cluster.do, f"lead {(turn + 1) % 3}")
            await until(
                lambda before=before: all(len(acknowledged[each]) > before[each] for each in before)
            )
            if turn % 2:
                await asyncio.to_thread(cluster.do, f"back {turn % 3}")
        ending.set()
    print(f"{ROUNDS} leaders, the longest append took {longest:.2f} s")
    for stream, ids in acknowledged.items():
        raws = [raw async for raw in log.read_stream(stream)]
        assert [raw.revision for raw in raws] == list(range(len(ids)))  # none lost, none twice


async def test_appends_and_reads_wait_for_the_next_leader(
    cluster: ClusterProcess, open_log: Callable[..., EventLog]
) -> None:
    log = open_log()
    await log.append([one("a-1", None)])
    [_] = [raw async for raw in log.read_stream("a-1", limit=1)]
    cluster.do("elect")
    asking = [
        asyncio.create_task(log.append([one("a-1", 0)])),
        asyncio.create_task(anext(log.read_stream("a-1", limit=1))),
    ]
    await asyncio.sleep(0.5)
    assert not any(task.done() for task in asking)
    cluster.do("lead 1")
    async with asyncio.timeout(PATIENCE):
        [[answer], _] = await asyncio.gather(*asking)
    assert isinstance(answer, Appended)


async def test_a_dead_leader_in_the_gossip_is_not_taken_for_a_second_leader(
    cluster: ClusterProcess, open_log: Callable[..., EventLog]
) -> None:
    """Gossip still lists it as a leader that is dead; the client ignores that it is dead."""
    cluster.do("away 0")
    cluster.do("lead 1")
    log = open_log()
    assert isinstance((await log.append([one("a-1", None)]))[0], Appended)
    assert [raw.revision async for raw in log.read_stream("a-1", limit=1)] == [0]


async def test_subscriptions_go_to_a_follower_and_appends_to_the_leader(
    cluster: ClusterProcess, open_log: Callable[..., EventLog]
) -> None:
    """First one follower is removed, then the other: readers end up at the leader."""
    log = open_log(f"{cluster.uri}&NodePreference=follower")
    await log.append([one("a-1", None)])
    got: list[int] = []

    async def follow() -> None:
        while True:
            try:
                after = got[-1] if got else None
                async with aclosing(log.subscribe(["a-"], after)) as batches:
                    async for batch in batches:
                        got.extend(raw.position for raw in batch.records)
            except StoreUnavailable:
                await asyncio.sleep(0.1)

    following = asyncio.create_task(follow())
    await until(lambda: len(got) == 1)
    for number in (1, 2):
        cluster.do(f"away {number}")
        await log.append([one("a-1", number - 1)])
        await until(lambda number=number: len(got) > number)
    following.cancel()
    assert got == sorted(set(got))
    assert len(got) == 3


async def test_all_nodes_may_be_away_for_a_while(
    cluster: ClusterProcess, open_log: Callable[..., EventLog]
) -> None:
    log = open_log()
    await log.append([one("a-1", None)])
    cluster.do("away 0 1 2")
    began = time.monotonic()
    while time.monotonic() < began + AWAY:
        with pytest.raises(StoreUnavailable):
            await log.end_position(["a-"])
        await asyncio.sleep(0.2)
    cluster.do("back 0 1 2")
    cluster.do("lead 2")
    began, expected = time.monotonic(), 0
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                [answer] = await log.append([one("a-1", expected)])
            except StoreUnavailable:
                continue
            assert isinstance(answer, Appended)
            break
    print(f"away for {AWAY:.0f} s, appended {time.monotonic() - began:.2f} s after")
    assert [raw.revision async for raw in log.read_stream("a-1", limit=9)] == [0, 1]


async def test_consumers_of_a_group_go_to_the_next_leader(
    cluster: ClusterProcess, open_log: Callable[..., EventLog]
) -> None:
    log = open_log()
    groups = PersistentSubscriptions(f"{cluster.uri}&NodePreference=follower")
    await groups.create("g", ["a-"], 0)
    got: set[int] = set()
    for number in range(3):
        cluster.do(f"lead {number}")
        await log.append([one("a-1", number - 1 if number else None)])
        async with asyncio.timeout(PATIENCE):
            while number not in got:
                # As every consumer does: who meets the end of a connection joins again.
                with suppress(StoreUnavailable):
                    await consume(groups, number, got)
    await groups.close()


async def consume(groups: PersistentSubscriptions, number: int, got: set[int]) -> None:
    """Take what comes, and acknowledge it, until that revision is there."""
    async with groups.join("g") as deliveries:
        while number not in got:
            taken = await deliveries.take()
            await deliveries.ack(taken)
            got.update(each.raw.revision for each in taken)


async def test_the_subscription_to_a_group_ends_when_the_leader_changes(
    cluster: ClusterProcess,
) -> None:
    groups = PersistentSubscriptions(cluster.uri)
    await groups.create("g", ["a-"], 0)
    async with asyncio.timeout(PATIENCE), groups.join("g") as deliveries:
        cluster.do("lead 1")
        with pytest.raises(StoreUnavailable):
            await deliveries.take()
    await groups.close()


async def test_discovery_takes_one_name_or_several(
    cluster: ClusterProcess, open_log: Callable[..., EventLog]
) -> None:
    cluster.do("lead 2")
    for targets in (cluster.targets[:1], cluster.targets):
        log = open_log(f"kdb+discover://{','.join(targets)}?Tls=false")
        await log.connect()
        assert isinstance((await log.append([one(f"a-{len(targets)}", None)]))[0], Appended)


class Wire:
    """A node's address, which may go silent: nothing is refused, nothing is answered."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._there = node.port
        self._talking = asyncio.Event()
        self._talking.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None

    async def start(self) -> None:
        """Stand in front of the node: it tells this address from now on."""
        self._listener = await asyncio.start_server(self._pass, self._node.host, 0)
        self._node.port = self._listener.sockets[0].getsockname()[1]

    def hush(self) -> None:
        """Go silent."""
        self._talking.clear()

    async def stop(self) -> None:
        """End it."""
        assert self._listener is not None
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, node = await asyncio.open_connection(self._node.host, self._there)
        for source, sink in ((reader, node), (there, writer)):
            self._tasks.add(asyncio.create_task(self._copy(source, sink)))

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(1 << 16):
            await self._talking.wait()
            sink.write(data)
        sink.close()


async def test_a_leader_that_vanishes_silently_is_given_up(tmp_path: Path) -> None:
    """With timeouts of one second, where a connection string has eight, five and two by default."""
    cluster = PlayedCluster(tmp_path / "store")
    await cluster.start()
    wires = [Wire(node) for node in cluster.roles.nodes]
    for wire in wires:
        await wire.start()
    log = EventLog(f"{cluster.uri}&KeepAliveInterval=500&KeepAliveTimeout=500&GossipTimeout=1")
    await log.append([one("a-1", None)])
    got: list[int] = []

    async def follow() -> None:
        while True:
            after = got[-1] if got else None
            with suppress(StoreUnavailable):
                async with aclosing(log.subscribe(["a-"], after)) as batches:
                    async for batch in batches:
                        got.extend(raw.position for raw in batch.records)

    following = asyncio.create_task(follow())
    await until(lambda: len(got) == 1)
    wires[0].hush()
    await cluster.lead(1)
    began = time.monotonic()
    async with asyncio.timeout(PATIENCE):
        [answer] = await log.append([one("a-1", 0)])
        assert [raw.revision async for raw in log.read_stream("a-1", after=0, limit=1)] == [1]
    assert isinstance(answer, Appended)
    await until(lambda: len(got) == 2)
    print(f"appended, read and followed {time.monotonic() - began:.2f} s after")
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await log.close()
    for wire in wires:
        await wire.stop()
    await cluster.stop()
