"""Views that come back with a release, and of whose rows somebody was forgotten meanwhile."""

from __future__ import annotations

import asyncpg
import pytest

from deploy.stack.taken_up import note_built, taken_up
from eventstore.personal.keys import new_key
from eventstore.personal.postgres import destroy, prepare_keys, settle
from rayfold import Registry
from rayfold.runtime.postgres import Connection, connect


@pytest.fixture
async def connection(databases: list[str]) -> Connection:
    """A database of a stack with personal data."""
    connection = await connect(databases[0])
    await prepare_keys(connection)
    return connection


@pytest.fixture
def whole() -> Registry:
    return Registry.load("tests.personal")


@pytest.fixture
def without_contacts() -> Registry:
    registry = Registry.load("tests.personal")
    del registry.views["contacts"]
    return registry


async def forget(connection: Connection, subject: str) -> None:
    """Destroy a key, and say that nothing is left."""
    key = new_key(subject)
    await connection.execute(
        "INSERT INTO rayfold_personal_key (id, subject, key) VALUES ($1, $2, $3)",
        *(key.id, key.subject, b""),
    )
    await destroy(connection, {key.id})
    await settle(connection, {key.id})


async def test_one_that_comes_back_is_built_afresh_if_somebody_was_forgotten_meanwhile(
    connection: Connection, whole: Registry, without_contacts: Registry
) -> None:
    await forget(connection, "ada")  # nobody has left anything
    assert await taken_up(connection, whole) == []
    assert await taken_up(connection, without_contacts) == []
    await forget(connection, "bob")
    assert await taken_up(connection, without_contacts) == []
    assert await taken_up(connection, whole) == ["contacts"]
    assert await taken_up(connection, whole) == ["contacts"]  # it was not built
    await note_built(connection, "contacts")
    assert await taken_up(connection, whole) == []


async def test_one_that_comes_back_after_nobody_was_forgotten_is_as_it_was(
    connection: Connection, whole: Registry, without_contacts: Registry
) -> None:
    await forget(connection, "ada")
    for registry in (whole, without_contacts, whole):
        assert await taken_up(connection, registry) == []
    await forget(connection, "bob")  # of which the views that there are know
    assert await taken_up(connection, whole) == []


async def test_a_domain_without_personal_data_has_nothing_noted(connection: Connection) -> None:
    assert await taken_up(connection, Registry.load("examples.shop")) == []
    with pytest.raises(asyncpg.UndefinedTableError):
        await connection.fetch("SELECT FROM rayfold_personal_view")
