"""Views that come back with a release, after a person in their rows was forgotten."""

from __future__ import annotations

import pytest

from deploy.stack.taken_up import note_built
from deploy.stack.taken_up import taken_up as taken_up_where
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


async def taken_up(
    connection: Connection, registry: Registry, *stores: str
) -> dict[str, list[str]]:
    """Start a release of a stack that has these stores, or those that its views name."""
    return await taken_up_where(
        connection,
        registry,
        lambda view: stores if stores and view.name == "contacts" else view.stores,
    )


async def forget(connection: Connection, subject: str) -> None:
    """Destroy a key, and say that nothing is left."""
    key = new_key(subject)
    await connection.execute(
        "INSERT INTO rayfold_personal_key (id, subject, key) VALUES ($1, $2, $3)",
        *(key.id, key.subject, b""),
    )
    await destroy(connection, {key.id})
    await settle(connection, {key.id})


@pytest.mark.parametrize("set_back", [0, 3600])
async def test_a_view_that_comes_back_is_rebuilt_if_a_person_was_forgotten_meanwhile(
    connection: Connection, whole: Registry, without_contacts: Registry, set_back: int
) -> None:
    """Whatever Postgres' clock said when the view left."""
    await forget(connection, "ada")  # nobody has left anything
    assert await taken_up(connection, whole) == {}
    assert await taken_up(connection, without_contacts) == {}
    await connection.execute(
        "UPDATE rayfold_personal_view SET left_at = left_at + make_interval(secs => $1)", set_back
    )
    await forget(connection, "bob")
    assert await taken_up(connection, without_contacts) == {}
    assert await taken_up(connection, whole) == {"contacts": ["postgres"]}
    assert await taken_up(connection, whole) == {"contacts": ["postgres"]}  # it was not built
    await note_built(connection, "contacts", ["postgres"])
    assert await taken_up(connection, whole) == {}


async def test_a_view_that_comes_back_keeps_its_rows_if_nobody_was_forgotten(
    connection: Connection, whole: Registry, without_contacts: Registry
) -> None:
    await forget(connection, "ada")
    for registry in (whole, without_contacts, whole):
        assert await taken_up(connection, registry) == {}
    await forget(connection, "bob")  # of which the views that there are know
    assert await taken_up(connection, whole) == {}


@pytest.mark.parametrize("had", ["without_contacts", "whole"])
async def test_a_store_that_comes_back_later_is_rebuilt_then(
    connection: Connection, whole: Registry, had: str, request: pytest.FixtureRequest
) -> None:
    """Also if the domain always names the store, and the stack did not have it."""
    assert await taken_up(connection, whole, "postgres", "redis") == {}
    await taken_up(connection, request.getfixturevalue(had), "postgres")
    await forget(connection, "bob")
    for view, stores in (await taken_up(connection, whole, "postgres")).items():
        await note_built(connection, view, stores)
    assert await taken_up(connection, whole, "postgres") == {}
    assert await taken_up(connection, whole, "postgres", "redis") == {"contacts": ["redis"]}
