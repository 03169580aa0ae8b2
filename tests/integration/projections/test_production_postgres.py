"""Postgres in production: TLS, failovers, administrators' limits. No event is blamed."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import asyncpg
import pytest
import trustme
import uvloop

from eventstore.memory import MemoryLog
from projections.errors import PostgresUnavailable
from projections.poison import is_poison, is_refused
from projections.postgres import budget, database
from projections.postgres.connections import connected
from projections.postgres.database import CONNECTIONS, READERS, Database
from projections.postgres.schema import begin_generation, prepare, switch
from projections.sql.projector import SqlProjector
from projections.sql.schema import prepare as prepare_sql
from projections.supervision.placements import Placements
from rayfold.runtime import postgres as postgres_connections
from rayfold.runtime.postgres import SILENCE, Connection, connect
from tests.integration.projections.postgres_projector import Projector
from tests.integration.projections.relay import Relay, relayed
from tests.integration.projections.small import TOTALS, Added, add
from tests.integration.projections.test_poison import REGISTRY, broken, dsn, there, totals
from tests.integration.projections.test_sql_projection import SMALL, Lenient

__all__ = ["broken", "dsn"]
PATIENCE = 60.0
LONG = 1_000


@asynccontextmanager
async def projecting(log: MemoryLog, dsn: str) -> AsyncIterator[Projector]:
    """A projector of the totals; their table is there already."""
    projector = Projector(REGISTRY, log, dsn, [TOTALS])
    async with running(projector.run()):
        yield projector


@asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run it meanwhile."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def admin(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """The administrator's connection, to the database with the tables made."""
    connection = await asyncpg.connect(dsn)
    await prepare(connection, [TOTALS], {"totals": 1})
    yield connection
    await connection.execute("ALTER DATABASE postgres RESET ALL")
    await connection.close()


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not reached():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def says(projector: Projector, text: str) -> Callable[[], bool]:
    """Whether it reports such an error."""
    return lambda: text in str(projector.status().get("error"))


async def goes_on(log: MemoryLog, projector: Projector, dsn: str) -> None:
    """All that is on the log is in the table, and nothing was parked."""
    await there(log, [projector])
    expected: dict[str, int] = {}
    async for raw in log.read_all(["counter-"]):
        added = Added.model_validate_json(raw.data)
        expected[added.counter] = expected.get(added.counter, 0) + added.number
    assert await totals(dsn) == expected
    assert projector.parked() == []
    connection = await asyncpg.connect(dsn)
    assert await connection.fetchval("SELECT count(*) FROM rayfold_parked") == 0
    await connection.close()


class Certificates:
    """A server's contexts and a CA file, by a right authority and by another."""

    def __init__(self, folder: Path) -> None:
        authority, other = trustme.CA(), trustme.CA()
        self.ca, self.other_ca = folder / "ca.pem", folder / "other.pem"
        authority.cert_pem.write_to_path(self.ca)
        other.cert_pem.write_to_path(self.other_ca)
        self.right = self._context(authority, "localhost")
        self.other_name = self._context(authority, "elsewhere")
        self.unknown = self._context(other, "localhost")

    @staticmethod
    def _context(authority: trustme.CA, name: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(context)
        return context


class Noted(Connection):
    """Says when it is asked what answers there, and in which thread it is ended."""

    made: ClassVar[list[Noted]] = []
    asked: ClassVar[asyncio.Event]
    __slots__ = ("ended_in",)

    async def prepare(self, *arguments: Any, **options: Any) -> Any:
        self.made.append(self)
        self.asked.set()
        return await super().prepare(*arguments, **options)

    def _abort(self) -> None:
        self.ended_in = threading.get_ident()
        super()._abort()  # type: ignore[misc]


@pytest.fixture
def noted() -> type[Noted]:
    Noted.made, Noted.asked = [], asyncio.Event()
    return Noted


async def test_cancelling_an_attempt_to_connect_leaves_no_connection_open(
    dsn: str, noted: type[Noted]
) -> None:
    connecting = asyncio.create_task(connect(dsn, connection_class=noted))
    async with asyncio.timeout(PATIENCE):
        await noted.asked.wait()
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
    [connection] = noted.made
    assert connection.is_closed()


async def test_a_connection_is_closed_in_the_thread_of_its_event_loop_whoever_closes_it(
    dsn: str, noted: type[Noted]
) -> None:
    connection = await connect(dsn, connection_class=noted)
    await asyncio.to_thread(connection.terminate)
    await until(connection.is_closed)
    assert noted.made[0].ended_in == threading.get_ident()


async def _asked(dsn: str, relay: Relay) -> None:
    connection = await connect(dsn)
    try:
        async with connection.transaction():
            relay.freeze()
            await connection.execute("SELECT 1")
    finally:
        connection.terminate()


async def _asked_shortly(dsn: str, relay: Relay) -> None:
    async with connected(dsn) as connection:
        relay.freeze()
        await connection.execute("SELECT 1")


@pytest.mark.parametrize("ask", [_asked, _asked_shortly])
async def test_a_cancelled_query_does_not_wait_for_a_silent_server(
    relay: Relay, monkeypatch: pytest.MonkeyPatch, ask: Callable[[str, Relay], Awaitable[None]]
) -> None:
    """The driver itself would wait until the server accepts the request to cancel the statement."""
    monkeypatch.setattr(postgres_connections, "CANCELLING", 0.1)
    asking = asyncio.ensure_future(ask(relay.dsn, relay))
    async with asyncio.timeout(PATIENCE):
        await relay.withheld.wait()
        asking.cancel()
        await asyncio.wait([asking])
    assert asking.cancelled(), "a task that must end would go on, and try again"


async def test_a_silent_streaming_replica_does_not_delay_the_status(
    relay: Relay, admin: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The status of all actors would wait for it."""
    monkeypatch.setattr(database, "SILENCE", 0.1)
    monkeypatch.setattr(database, "TIMEOUT", 10 * PATIENCE)
    replica = Database(relay.dsn, "postgres-read#0")

    async def looked_at_until_ready() -> None:
        while not replica.ready:
            await replica.look()
            await asyncio.sleep(0.01)

    async with asyncio.timeout(PATIENCE):
        await looked_at_until_ready()
        relay.freeze()
        for _ in range(2):
            await replica.look()
            assert not replica.ready
        relay.thaw()
        await looked_at_until_ready()
    replica.close()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
async def relay(dsn: str) -> AsyncIterator[Relay]:
    async with relayed(dsn) as running:
        yield running


async def test_tls_is_verified_in_full(dsn: str, admin: object, certificates: Certificates) -> None:
    async with relayed(dsn, certificates.right) as relay:
        uri = f"{relay.dsn}&sslrootcert={certificates.ca}"
        connection = await connect(uri)
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()
        assert relay.encrypted == 1
        for wrong in (
            f"{relay.dsn}&sslrootcert={certificates.other_ca}",
            uri.replace("localhost", "127.0.0.1"),
            f"{relay.dsn}&sslrootcert={certificates.ca}.missing",
        ):
            with pytest.raises(PostgresUnavailable):
                await Database(wrong, "wrong").connect()


async def test_a_certificate_that_is_not_trusted_parks_nothing(
    dsn: str, admin: object, certificates: Certificates
) -> None:
    log = MemoryLog()
    async with (
        relayed(dsn, certificates.right) as relay,
        projecting(log, f"{relay.dsn}&sslrootcert={certificates.ca}") as projector,
    ):
        await add(log, "a", 1, 2)
        await there(log, [projector])
        for wrong in (certificates.unknown, certificates.other_name):
            relay.tls = wrong
            relay.cut()
            await add(log, "a", 3)
            await until(says(projector, "certificate verify failed"))
            relay.tls = certificates.right
            await goes_on(log, projector, dsn)


async def test_after_a_failover_the_new_server_may_be_read_only_for_a_while(
    dsn: str, admin: asyncpg.Connection, relay: Relay
) -> None:
    log = MemoryLog()
    reads = Database(relay.dsn, "reads")
    async with projecting(log, relay.dsn) as projector:
        await add(log, "a", 1)
        await there(log, [projector])
        assert (await reads.fetch("SELECT total FROM totals"))[0]["total"] == 1
        relay.is_open = False
        relay.cut()
        await add(log, "a", 2)
        await until(lambda: "error" in projector.status())
        with pytest.raises(PostgresUnavailable):
            await reads.fetch("SELECT total FROM totals")
        await admin.execute("ALTER DATABASE postgres SET default_transaction_read_only = on")
        relay.is_open = True
        await until(says(projector, "ReadOnlySQLTransactionError"))
        assert (await reads.fetch("SELECT total FROM totals"))[0]["total"] == 1  # reads go on
        await admin.execute("ALTER DATABASE postgres RESET default_transaction_read_only")
        began = time.monotonic()
        relay.cut()  # the promotion ends sessions that began before
        await goes_on(log, projector, dsn)
        print(f"goes on {time.monotonic() - began:.2f} s after the promotion")
    reads.close()


async def test_of_several_hosts_the_primary_is_taken(
    dsn: str, admin: asyncpg.Connection, relay: Relay
) -> None:
    """One host does not answer, and no host accepts writes: then the error is one line."""
    port = relay.dsn.rpartition(":")[2].partition("/")[0]
    uri = f"postgresql://postgres@localhost:1,localhost:{port}/postgres?target_session_attrs="
    connection = await connect(f"{uri}primary")
    await connection.close()
    with pytest.raises(PostgresUnavailable):
        await Database(f"{uri}standby", "standby").fetch("SELECT 1")


async def test_settings_of_an_authors_statement_do_not_stay_in_the_session(
    dsn: str, admin: asyncpg.Connection
) -> None:
    """Sessions are not reset after our own statements for views."""
    reads = Database(dsn, "reads")
    try:
        async with reads.snapshot() as connection:
            session = await connection.fetchval("SELECT pg_backend_pid()")
            await connection.execute("SELECT set_config('search_path', 'nowhere', false)")
        [found] = await reads.fetch(
            "SELECT pg_backend_pid() AS session, current_setting('search_path') AS path"
        )
        assert found["session"] == session
        assert found["path"] != "nowhere"
    finally:
        reads.close()


async def test_locks_of_an_authors_statement_are_released_if_it_fails(
    dsn: str, admin: asyncpg.Connection
) -> None:
    """A rollback does not release session locks."""
    reads = Database(dsn, "reads")

    async def broken() -> None:
        async with reads.snapshot() as connection:
            await connection.execute("SELECT pg_advisory_lock(4711)")
            assert not await admin.fetchval("SELECT pg_try_advisory_lock(4711)")
            raise RuntimeError("its own")

    try:
        with pytest.raises(RuntimeError, match="its own"):
            await broken()
        await admin.execute("SELECT pg_advisory_lock(4711)", timeout=PATIENCE)
        await admin.execute("SELECT pg_advisory_unlock(4711)")
    finally:
        reads.close()


async def test_a_statement_timeout_does_not_park_the_event(
    dsn: str, admin: asyncpg.Connection, relay: Relay
) -> None:
    log = MemoryLog()
    await admin.execute("ALTER DATABASE postgres SET statement_timeout = '50ms'")
    blocker = await asyncpg.connect(dsn)
    async with projecting(log, relay.dsn) as projector:
        await add(log, "a", 1)
        await there(log, [projector])
        held = blocker.transaction()
        await held.start()
        await blocker.execute("LOCK TABLE totals")
        await add(log, "a", 2, 3)
        await until(says(projector, "statement timeout"))
        await held.rollback()
        await goes_on(log, projector, dsn)
    await blocker.close()


@pytest.mark.parametrize("pooled", [False, True])
async def test_a_generation_is_switched_whatever_the_default_isolation_level_is(
    dsn: str, admin: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, pooled: bool
) -> None:
    """At a stricter isolation level, what is written meanwhile would be a conflict each time."""
    monkeypatch.setattr(postgres_connections, "_pooled", {dsn} if pooled else set())
    await admin.execute("ALTER DATABASE postgres SET default_transaction_isolation = serializable")
    log = MemoryLog()
    await add(log, "a", 1)
    async with connected(dsn) as connection, projecting(log, dsn) as projector:
        table = await begin_generation(connection, TOTALS)
        builder = Projector(REGISTRY, log, dsn, [TOTALS], generations={"totals": table})
        building = asyncio.create_task(builder.run())

        async def reached(position: int) -> int:
            await add(log, "a", 2)
            await there(log, [builder])
            return position

        await switch(connection, TOTALS, table, reached)
        building.cancel()
        with suppress(asyncio.CancelledError):
            await building
        await goes_on(log, projector, dsn)


async def test_too_many_connections_are_waited_for(dsn: str, admin: asyncpg.Connection) -> None:
    await admin.execute("DROP ROLE IF EXISTS app")
    await admin.execute("CREATE ROLE app LOGIN SUPERUSER")
    await admin.execute("ALTER ROLE app NOSUPERUSER CONNECTION LIMIT 1")
    await admin.execute("GRANT ALL ON SCHEMA public TO app")
    await admin.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO app")
    log = MemoryLog()
    await add(log, "a", 1)
    as_app = dsn.replace("postgres:@", "app:@")
    taken = await asyncpg.connect(as_app)
    async with projecting(log, as_app) as projector:
        await until(says(projector, "TooManyConnectionsError"))
        await taken.close()
        await goes_on(log, projector, dsn)
    await admin.execute("DROP OWNED BY app; DROP ROLE app")


async def test_no_more_rights_are_needed_than_the_page_says(dsn: str) -> None:
    admin = await asyncpg.connect(dsn)
    await admin.execute("DROP SCHEMA IF EXISTS lenient_sum CASCADE")
    await admin.execute("CREATE ROLE plain LOGIN")
    await admin.execute("GRANT USAGE, CREATE ON SCHEMA public TO plain")
    await admin.execute("GRANT CREATE ON DATABASE postgres TO plain")
    log = MemoryLog()
    await add(log, "a", *range(1, 5))
    as_plain = dsn.replace("postgres:@", "plain:@")
    try:
        async with connected(as_plain) as connection:
            await prepare(connection, [TOTALS], {"totals": 1})
            await prepare_sql(connection, [Lenient])
        custom = SqlProjector(SMALL, log, as_plain, Lenient)
        running = asyncio.create_task(custom.run())
        async with projecting(log, as_plain) as projector:
            await goes_on(log, projector, dsn)
            assert await custom.progress.reached(await log.end_position(["counter-"]), PATIENCE)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        database = Database(as_plain, "plain")
        assert await budget.shortage(database, 10) is None
        database.close()
    finally:
        await admin.execute("DROP OWNED BY plain CASCADE; DROP ROLE plain")
        await admin.close()


async def test_operators_are_told_if_connections_will_not_suffice(
    dsn: str, admin: asyncpg.Connection
) -> None:
    placements = Placements()
    wanted = budget.wanted(placements)
    database = Database(dsn, "primary")
    assert budget.wanted(placements, hosts=8) == wanted + 8
    assert await budget.shortage(database, wanted) is None
    allowed = await admin.fetchval("SHOW max_connections")
    line = await budget.shortage(database, int(allowed))
    assert line is not None
    assert "raise max_connections" in line
    other = {"application_name": f"{READERS}elsewhere"}  # another gateway
    gateway = await asyncpg.connect(dsn, server_settings=other)
    await admin.execute("ALTER ROLE postgres CONNECTION LIMIT 5")
    try:
        line = await budget.shortage(database, wanted)
    finally:
        await admin.execute("ALTER ROLE postgres CONNECTION LIMIT -1")
        await gateway.close()
    database.close()
    assert line is not None
    up_to = wanted + 2 * CONNECTIONS
    assert f"allows this user 5 connections, others have 0 open, and up to {up_to} are" in line


async def test_a_role_that_acts_as_the_owner_has_its_own_limit_and_sessions(
    dsn: str, admin: asyncpg.Connection
) -> None:
    """Its own connections were taken for those of others."""
    await admin.execute("CREATE ROLE owner")
    await admin.execute("CREATE ROLE acting LOGIN CONNECTION LIMIT 5 IN ROLE owner")
    await admin.execute("ALTER ROLE acting SET role = 'owner'")
    others = "SELECT count(*) FROM pg_stat_activity WHERE usename <> 'acting'"
    database = Database(dsn.replace("postgres:@", "acting:@"), "acting")
    try:
        async with asyncio.timeout(PATIENCE):
            while True:  # sessions of the test before this one may be ending
                said = f"this user 5 connections, others have {await admin.fetchval(others)} open"
                if said in str(await budget.shortage(database, 5)):
                    break
                await asyncio.sleep(0.05)
    finally:
        database.close()
        await admin.execute("DROP ROLE acting")
        await admin.execute("DROP ROLE owner")


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_server_that_vanished_silently_is_given_up(
    postgres: str, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """The kernel's default is a quarter of an hour. Only the options are tested here."""

    async def options() -> tuple[int, int]:
        async with relayed(postgres) as relay:
            connection = await connect(relay.dsn)
            opened = connection._transport.get_extra_info("socket")
            found = (
                opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
                opened.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
            )
            await connection.close()
        return found

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(options()) == (SILENCE * 1000, 1)


@pytest.mark.parametrize(
    "error",
    [
        ssl.SSLCertVerificationError("certificate verify failed"),  # a ValueError too
        asyncpg.ClientConfigurationError("no such file"),  # likewise
        asyncpg.TargetServerAttributeNotMatched("no primary"),
        asyncpg.ReadOnlySQLTransactionError("a failover"),
        asyncpg.QueryCanceledError("statement timeout"),
        asyncpg.TooManyConnectionsError("too many"),
        asyncpg.IdleInTransactionSessionTimeoutError("idle"),
        asyncpg.AdminShutdownError("ends"),
        asyncpg.InsufficientPrivilegeError("a right is missing"),
        asyncpg.DuplicatePreparedStatementError("a pooler"),
        asyncpg.InvalidSQLStatementNameError("a pooler"),
        asyncpg.LockNotAvailableError("lock timeout"),
        ConnectionResetError(),
        TimeoutError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_the_database_is_not_taken_for_a_fault_of_the_event(error: Exception) -> None:
    assert not is_refused(error)
    assert not is_poison(error)
