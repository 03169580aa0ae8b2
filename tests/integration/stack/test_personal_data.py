"""A person is forgotten in a whole `rayfold up`, which is killed in the middle of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.stack.migrating import running_postgres
from rayfold.runtime.postgres import connect
from tests.stack import Stack, run_rayfold

SECRETS = (b"secret-ada", b"Secretname")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack whose customers may be forgotten."""
    running = Stack(tmp_path_factory.mktemp("own") / "data", RAYFOLD_DOMAIN="tests.personal")
    running.start()
    yield running
    assert running.stop() == 0


def send(stack: Stack, path: str, **fields: Any) -> None:
    """Send a command, and wait until its views have it."""
    answer = httpx.post(stack.url + path, json=fields, headers={"Prefer": "wait=30"}, timeout=60)
    assert answer.status_code == 202, answer.text


def rows(stack: Stack, customer: str) -> list[Any]:
    """Return a customer's rows from memory and from Postgres, and their first letter's."""
    paths = (f"/customers/{customer}", f"/customers/{customer}", f"/letters/{customer}-1")
    stores = ("memory", "postgres", "memory")
    answers = [
        httpx.get(stack.url + path, headers={"Rayfold-Store": store}, timeout=60)
        for path, store in zip(paths, stores, strict=True)
    ]
    return [each.json().get("email", each.json().get("to")) for each in answers]


async def names(stack: Stack) -> list[str]:
    """Return what is in the rows of the state-stored accounts."""
    connection = await connect(running_postgres(stack.data / "postgres"))
    try:
        return [
            each["name"]
            for each in await connection.fetch("SELECT name FROM rayfold_state.account")
        ]
    finally:
        await connection.close()


async def in_tables(stack: Stack) -> list[str]:
    """Return the tables in which a value stands, and the columns whose statistics have it."""
    connection = await connect(running_postgres(stack.data / "postgres"))
    values = "|".join(each.decode() for each in SECRETS)
    try:
        tables = await connection.fetch(
            "SELECT oid::regclass::text AS name FROM pg_class WHERE relkind IN ('r', 'm')"
            " AND relnamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema')"
        )
        counted = await connection.fetch(
            "SELECT tablename || '.' || attname AS name FROM pg_stats WHERE"
            " most_common_vals::text ~ $1 OR histogram_bounds::text ~ $1",
            values,
        )
        return [each["name"] for each in counted] + [
            each["name"]
            for each in tables
            if await connection.fetchval(
                f"SELECT count(*) FROM {each['name']} t WHERE t::text ~ $1", values
            )
        ]
    finally:
        await connection.close()


def in_clear(data: Path) -> list[str]:
    """Return the files in which a value stands; but for Postgres' own, which it writes over."""
    return [
        path.name
        for path in data.rglob("*")
        if path.is_file() and "postgres" not in path.parts and is_in(path)
    ]


def is_in(path: Path) -> bool:
    try:
        return any(each in path.read_bytes() for each in SECRETS)
    except OSError:
        return False


def wait_for(condition: Any) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.1)


def test_a_person_is_forgotten_though_the_stack_is_killed_meanwhile(own: Stack) -> None:
    send(own, "/customers", customer_id="ada", email="secret-ada@example.org", born=1815)
    send(own, "/customers", customer_id="bob", email="bob@example.org")
    send(own, "/commands/open-account", holder="ada", name="Secretname")
    mails = ["secret-ada@example.org"] * 3
    wait_for(lambda: rows(own, "ada") == mails)
    assert asyncio.run(names(own)) == ["Secretname"]
    assert {"contacts", "rayfold_state.account"} <= {*asyncio.run(in_tables(own))}
    assert not in_clear(own.data)
    assert run_rayfold(own, "verify").startswith("0 differences")

    answer = httpx.post(f"{own.url}/operators/forget", json={"subjects": ["ada", "eve"]})
    assert answer.status_code == 202
    assert [each["subject"] for each in answer.json()["forgotten"]] == ["ada"]
    assert answer.json()["unknown"] == ["eve"]
    own.kill()
    own.start()

    wait_for(lambda: not httpx.get(f"{own.url}/operators/forgetting").json()["left"])
    assert rows(own, "ada") == ["[forgotten]"] * 3
    assert asyncio.run(names(own)) == ["[forgotten]"]
    assert not asyncio.run(in_tables(own))
    assert rows(own, "bob") == ["bob@example.org"] * 3
    assert run_rayfold(own, "verify").startswith("0 differences")
    history = httpx.get(f"{own.url}/customers/ada/history").json()
    assert [each["data"]["email"] for each in history] == ["[forgotten]"]


def test_the_command_line_forgets_again_and_reports_an_unknown_person(own: Stack) -> None:
    send(own, "/customers/ada/email", email="secret-ada@example.org")
    assert "ada: forgotten\n" in run_rayfold(own, "forget", "ada", "--yes")
    assert "forgotten before" in run_rayfold(own, "forget", "ada", "--yes")
    assert "forget" in run_rayfold(own, "audit")
    answer = httpx.post(f"{own.url}/operators/forget", json={"subjects": ["nobody"]})
    assert answer.json()["unknown"] == ["nobody"]
    assert httpx.post(f"{own.url}/operators/forget", json={"subjects": []}).status_code == 422
    assert run_rayfold(own, "verify").startswith("0 differences")
    assert own.stop() == 0  # memory is left on the disk now
    assert not in_clear(own.data)
    own.start()
