"""The stores that there are, each empty for each test."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import asyncpg
import pytest

from eventstore.memory import MemoryLog
from projections.dynamodb import generations as generations_module
from projections.dynamodb import queries as queries_module
from projections.memory import replica as replica_module
from projections.redis import generations as redis_generations
from projections.stores import known, runner
from projections.stores.port import Place, ReadStore
from tests.contract.stores import documented
from tests.contract.stores.shelf import Shelf, registry_for
from tests.contract.stores.subjects import TIMEOUT, Durable, InMemory, Subject, place
from tests.dynamo_server import DynamoServer
from tests.postgres_server import postgres_server
from tests.redis_server import RedisServer

DURABLE = ["postgres", "redis", "redis-cluster", "dynamodb", "documented"]

OTHER = os.environ.get("RAYFOLD_CONTRACT_STORE", "")
"""`name=url` of a store that another package brings: then that one, and no other."""

if OTHER:
    DURABLE = [OTHER.partition("=")[0]]

POINTED = [each for each in DURABLE if each.startswith(("redis", "dynamodb")) and not OTHER]
"""Those of our own whose live generation is named by a pointer."""

MakeEmpty = Callable[[], Awaitable[Callable[[], ReadStore]]]
"""Gives what makes a store that has nothing of anybody."""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What breaks is tried again at once; nothing breaks by itself."""
    monkeypatch.setattr(runner, "RETRY", 0.01)
    monkeypatch.setattr(replica_module, "RETRY", 0.01)
    monkeypatch.setattr(Shelf, "broken", set())
    # A question to moto is three requests of some 20 ms of CPU each: seconds on a busy machine.
    monkeypatch.setattr(queries_module, "ANSWERED", TIMEOUT)
    monkeypatch.setattr(generations_module, "GRACE", 3 * TIMEOUT)
    monkeypatch.setattr(redis_generations, "PIECE", 1)  # of what is parked, which is little here


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A DSN."""
    with postgres_server() as dsn:
        yield dsn


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One server for all tests that do it no harm."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[RedisServer]:
    """A cluster of one node: it refuses what is not in one slot as any other does."""
    with RedisServer(cluster=True) as server:
        server.own_all_slots()
        yield server


@pytest.fixture(scope="session")
def dynamo_server() -> Iterator[DynamoServer]:
    """One server for all tests, each of which is a stack of its own in the table."""
    with DynamoServer() as server:
        yield server


@pytest.fixture
def make_empty(kind: str, request: pytest.FixtureRequest) -> MakeEmpty:
    """See `MakeEmpty`."""
    return make_empty_of(kind, request)


def make_empty_of(kind: str, request: pytest.FixtureRequest) -> MakeEmpty:
    """Return what empties a store, and makes it."""

    async def ours() -> Callable[[], ReadStore]:
        if kind == "postgres":
            dsn = request.getfixturevalue("postgres")
            connection = await asyncpg.connect(dsn)
            await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
            await connection.close()
            return _making("postgres", Place(dsn, ""))
        if kind.startswith("redis"):
            fixture = "redis_cluster" if kind == "redis-cluster" else "redis_server"
            return _making("redis", place(request.getfixturevalue(fixture).url))
        if kind == "documented":
            folder = request.getfixturevalue("tmp_path_factory").mktemp("sqlite")
            registry, where = registry_for("sqlite"), place(f"sqlite://{folder}/views.db")
            return lambda: documented.store()(registry, where)
        if kind == "dynamodb" and not OTHER:
            server = request.getfixturevalue("dynamo_server")
            return _making("dynamodb", place(server.url))
        return _making(kind, place(OTHER.partition("=")[2]))

    return ours


def _making(name: str, where: Place) -> Callable[[], ReadStore]:
    registry = registry_for(name)
    return lambda: known.make(name, registry, where)


@pytest.fixture(params=DURABLE)
def kind(request: pytest.FixtureRequest) -> str:
    """The name of a store, and how it is set up."""
    return str(request.param)


@pytest.fixture
async def durable(make_empty: MakeEmpty) -> Durable:
    """A store behind the port, with a log of its own; nothing runs yet."""
    make = await make_empty()
    return Durable(MemoryLog(), registry_for(make().name), make)


@pytest.fixture(params=[*([] if OTHER else ["memory"]), *DURABLE])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[tuple[MemoryLog, Subject]]:
    """Any store."""
    log = MemoryLog()
    if request.param == "memory":
        yield log, InMemory(log, registry_for("memory"))
        return
    make = await make_empty_of(request.param, request)()
    yield log, Durable(log, registry_for(make().name), make)
