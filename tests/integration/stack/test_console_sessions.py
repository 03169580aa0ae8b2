"""Sessions of the console in Postgres: each gateway finds those of the others, until they end."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from api.console.sessions import Sessions, SessionsLost
from deploy.stack.console_sessions import PostgresSessions
from deploy.stack.identity import identify
from rayfold.runtime.postgres import connect


@pytest.fixture
async def postgres(databases: list[str]) -> str:
    connection = await connect(databases[0])
    await identify(connection, "shop", "s1", "id1", "domain")
    await connection.close()
    return databases[0]


@pytest.fixture
async def gateways(postgres: str) -> AsyncIterator[tuple[PostgresSessions, PostgresSessions]]:
    kept = PostgresSessions(postgres), PostgresSessions(postgres)
    yield kept
    for each in kept:
        each.close()


async def test_a_session_is_every_gateways_until_it_is_ended(
    gateways: tuple[PostgresSessions, PostgresSessions],
) -> None:
    one, two = (Sessions(each) for each in gateways)
    text = await one.begin(b"a token")
    assert await two.token(text) == b"a token"
    assert await two.token(text + b"x") is None
    assert await two.end(text)
    assert await one.token(text) is None


async def test_a_session_is_over_in_time_and_its_row_goes(
    gateways: tuple[PostgresSessions, PostgresSessions], postgres: str
) -> None:
    one, two = gateways
    await one.keep(b"over", b"1", -1.0)
    assert await two.find(b"over") is None
    await two.keep(b"lasts", b"2", 3600.0)
    assert await one.find(b"lasts") == b"2"
    connection = await connect(postgres)
    rows = await connection.fetch("SELECT name FROM rayfold_console_sessions")
    await connection.close()
    assert [each["name"] for each in rows] == [b"lasts"]


async def test_a_connection_that_is_lost_is_made_again(
    gateways: tuple[PostgresSessions, PostgresSessions], postgres: str
) -> None:
    one, _ = gateways
    await one.keep(b"name", b"sealed", 3600.0)
    connection = await connect(postgres)
    await connection.execute(
        "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await connection.close()
    for _ in range(2):  # the first may still take the one that was ended
        try:
            found = await one.find(b"name")
        except SessionsLost:
            continue
        break
    assert found == b"sealed"


async def test_a_server_that_is_not_there_is_told_in_a_line() -> None:
    sessions = PostgresSessions("postgresql://u@127.0.0.1:1/nobody")
    with pytest.raises(SessionsLost, match=r"^Postgres does not answer: .+"):
        await sessions.find(b"name")
