"""Keys of subjects in a real Postgres: made once, cached, gone for everybody at once."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from eventstore.errors import StoreUnavailable
from eventstore.memory import MemoryLog
from eventstore.personal import postgres as keys_module
from eventstore.personal.forgotten import Forgotten
from eventstore.personal.keys import new_key
from eventstore.personal.master_keys import VARIABLE, WRAPPED, MasterKeys, NoMasterKey
from eventstore.personal.postgres import (
    Destroyed,
    PostgresKeys,
    clear,
    destroy,
    destroyed_of,
    keys_of,
    prepare_keys,
    settle,
    unsettled,
)
from eventstore.personal.rewrapping import wrap_again
from eventstore.personal.witness import Witness, note_destroyed, witness
from eventstore.port import Conflict, InvalidAppend
from rayfold.runtime.postgres import Connection, connect


@pytest.fixture
async def connection(server: str) -> AsyncIterator[Connection]:
    """A database with the tables of keys alone."""
    connection = await connect(server)
    await prepare_keys(connection)
    await prepare_keys(connection)  # as each start does
    yield connection
    await connection.execute("DROP TABLE rayfold_personal_key, rayfold_personal_forgotten")
    await connection.close()


@pytest.fixture
async def two(connection: Connection, server: str) -> AsyncIterator[list[PostgresKeys]]:
    """Two processes of a stack."""
    both = [PostgresKeys(server), PostgresKeys(server)]
    yield both
    for each in both:
        each.close()


async def forgotten(connection: Connection, *subjects: str) -> list[Destroyed]:
    """Destroy what subjects have; all that was ever destroyed of them."""
    await destroy(connection, await keys_of(connection, subjects))
    return await destroyed_of(connection, subjects)


async def test_concurrent_requests_get_the_same_key(two: list[PostgresKeys]) -> None:
    subjects = {f"s{number}" for number in range(50)}
    one, other = await asyncio.gather(*(each.to_write(subjects) for each in two))
    assert one == other
    assert one.keys() == subjects
    assert len({each.key for each in one.values()}) == 50
    ids = {each.id for each in one.values()}
    assert await two[1].to_read({*ids, uuid4()}) == {each.id: each for each in one.values()}


async def test_a_destroyed_key_is_removed_from_every_cache_at_once(
    connection: Connection, two: list[PostgresKeys]
) -> None:
    keys = await two[0].to_write({"ada", "bob"})
    ada, bob = keys["ada"], keys["bob"]
    assert len(await two[1].to_read({ada.id, bob.id})) == 2
    [gone] = await forgotten(connection, "ada", "nobody")
    assert (gone.id, gone.subject, gone.settled_at) == (ada.id, "ada", None)
    for each in two:
        assert await each.to_read({ada.id, bob.id, uuid4()}) == {ada.id: None, bob.id: bob}
    row = await connection.fetchrow("SELECT * FROM rayfold_personal_key WHERE subject = 'ada'")
    assert row is not None
    assert row["key"] is None


async def test_a_new_key_is_made_once_the_old_data_is_cleared_everywhere(
    connection: Connection, two: list[PostgresKeys]
) -> None:
    old = (await two[0].to_write({"ada"}))["ada"]
    [gone] = await forgotten(connection, "ada")
    assert await two[0].to_write({"ada", "bob"}) == await two[1].to_write({"bob"})
    await clear(connection, [gone.id])
    new = (await two[0].to_write({"ada"}))["ada"]
    assert new.id != old.id
    assert new.key != old.key
    assert await two[1].to_read({old.id, new.id}) == {old.id: None, new.id: new}


async def test_forgetting_again_continues_unfinished_work_and_destroys_nothing(
    connection: Connection, two: list[PostgresKeys]
) -> None:
    await two[0].to_write({"ada"})
    first = await forgotten(connection, "ada")
    assert await forgotten(connection, "ada") == first == await unsettled(connection)
    await settle(connection, [first[0].id])
    assert await unsettled(connection) == []
    [again] = await forgotten(connection, "ada")
    assert again.settled_at is not None


async def test_keys_in_memory_are_bounded_and_leave_an_idle_process(
    two: list[PostgresKeys], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_module, "MOST", 3)
    keys = await two[0].to_write({f"s{number}" for number in range(10)})
    assert len(keys) == 10
    assert len(two[0]._by_id) == len(two[0]._of) == 3
    monkeypatch.setattr(keys_module, "KEPT", 0.01)
    await two[0].to_write({"s1"})
    async with asyncio.timeout(10):
        while two[0]._by_id or two[0]._of:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_process_that_cannot_check_its_keys_drops_them(
    connection: Connection, two: list[PostgresKeys], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = two[0]
    ada = (await keys.to_write({"ada"}))["ada"]
    await connection.execute("ALTER TABLE rayfold_personal_forgotten RENAME TO away")
    try:
        with pytest.raises(StoreUnavailable, match="keys of personal data"):
            await keys.to_read({ada.id})
        assert not keys._by_id
        assert not keys._of
    finally:
        await connection.execute("ALTER TABLE away RENAME TO rayfold_personal_forgotten")
    assert await keys.to_read({ada.id}) == {ada.id: ada}


async def test_unused_keys_are_dropped_even_if_the_last_request_was_cancelled(
    connection: Connection, two: list[PostgresKeys], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_module, "KEPT", 0.01)
    keys = two[0]
    async with connection.transaction():
        await connection.execute("LOCK rayfold_personal_forgotten")
        asking = asyncio.create_task(keys.to_write({"ada"}))
        done, _ = await asyncio.wait([asking], timeout=0.1)
        assert not done
        keys._by_id[uuid4()] = new_key("bob")  # of a question before
        asking.cancel()
        await asyncio.wait([asking])
    async with asyncio.timeout(10):
        while keys._by_id:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_forgetting_changes_the_mark_which_is_settled_once_nothing_is_left(
    connection: Connection, two: list[PostgresKeys]
) -> None:
    await two[0].to_write({"ada"})
    before = await two[0].forgotten()
    assert before == await two[1].forgotten() == Forgotten(before.mark, True)
    [gone] = await forgotten(connection, "ada")
    after = await two[0].forgotten()
    assert after == Forgotten(after.mark, False)
    assert after.mark != before.mark
    await settle(connection, [gone.id])
    assert await two[1].forgotten() == Forgotten(after.mark, True)


async def test_keys_are_synced_to_disk_even_if_the_role_has_synchronous_commit_off(
    connection: Connection, server: str
) -> None:
    """Otherwise, after a crash, data on the log could not be decrypted."""
    await connection.execute(
        "CREATE FUNCTION durably() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF current_setting('synchronous_commit') = 'off' THEN RAISE 'it may be lost'; END IF;"
        " RETURN NEW; END $$"
    )
    await connection.execute(
        "CREATE TRIGGER durably BEFORE INSERT OR UPDATE ON rayfold_personal_key"
        " FOR EACH ROW EXECUTE FUNCTION durably()"
    )
    await connection.execute("SET synchronous_commit = off")
    keys = PostgresKeys(f"{server}{'&' if '?' in server else '?'}synchronous_commit=off")
    try:
        ada = (await keys.to_write({"ada"}))["ada"]
        assert await destroy(connection, [ada.id]) == 1
    finally:
        keys.close()
        await connection.execute("DROP FUNCTION durably CASCADE")


async def test_a_subject_may_be_any_text(two: list[PostgresKeys]) -> None:
    odd = "a\0b\x1a\ud800 ü"
    key = (await two[0].to_write({odd}))[odd]
    assert await two[1].to_read({key.id}) == {key.id: key}
    assert key.subject == odd


async def test_a_postgres_that_does_not_answer_is_an_outage() -> None:
    keys = PostgresKeys("postgresql://127.0.0.1:1/x")
    with pytest.raises(StoreUnavailable, match="keys of personal data"):
        await keys.to_read({uuid4()})
    keys.close()


async def test_no_key_stays_in_memory_if_it_is_closed_during_a_request(
    connection: Connection, server: str
) -> None:
    await prepare_keys(connection)
    keys = PostgresKeys(server)
    asking = asyncio.create_task(keys.to_write({"ada"}))
    while not keys._asking.locked():  # noqa: ASYNC110
        await asyncio.sleep(0)
    keys.close()
    with suppress(StoreUnavailable):  # as its connection was there already, or not yet
        await asking
    assert not keys._by_id
    assert not keys._of


async def test_a_log_detects_that_its_table_of_keys_is_missing(
    connection: Connection, server: str
) -> None:
    log = MemoryLog()
    here = (await prepare_keys(connection)).id
    assert await witness(log, here) == Witness(here, set())
    keys = PostgresKeys(server)
    ada = (await keys.to_write({"ada"}))["ada"]
    keys.close()
    await note_destroyed(log, {ada.id})
    await connection.execute("DROP TABLE rayfold_personal_forgotten")
    other = (await prepare_keys(connection)).id
    assert other != here
    found = await witness(log, other)
    assert found == Witness(here, {ada.id})
    assert await destroy(connection, found.destroyed) == 1  # a backup had it
    assert await destroy(connection, found.destroyed) == 0


async def test_a_log_whose_first_records_were_cut_off_uses_the_keys_that_are_there() -> None:
    log, gone, here = MemoryLog(), uuid4(), uuid4()
    await note_destroyed(log, {gone})
    for _ in range(2):
        found = await asyncio.wait_for(witness(log, here), 10)
        assert found == Witness(here, {gone})


@pytest.mark.parametrize("answer", [Conflict("no"), InvalidAppend("no")])
async def test_a_log_that_cannot_record_keys_is_an_outage(answer: Any) -> None:
    """Without that record nobody is forgotten, and no stack starts."""

    class Refusing(MemoryLog):
        async def append(self, appends: Any) -> Any:
            return [answer]

    with pytest.raises(StoreUnavailable, match="refuses its record"):
        await note_destroyed(Refusing(), {uuid4()})
    if isinstance(answer, InvalidAppend):
        with pytest.raises(StoreUnavailable, match="refuses its record"):
            await witness(Refusing(), uuid4())


async def test_a_key_that_is_missing_is_forgotten_only_if_an_operator_says_so(
    connection: Connection, two: list[PostgresKeys]
) -> None:
    unknown = uuid4()
    assert await two[0].to_read({unknown}) == {}
    await connection.execute("UPDATE rayfold_personal_forgotten SET lost = true")
    assert await two[0].to_read({unknown}) == {unknown: None}
    assert (await prepare_keys(connection)).lost


FIRST, SECOND = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))


async def kept(connection: Connection) -> list[bytes]:
    """Return the keys as Postgres has them."""
    rows = await connection.fetch("SELECT key FROM rayfold_personal_key WHERE key IS NOT NULL")
    return [row["key"] for row in rows]


@pytest.fixture
def master_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return what writes the file of master keys that this process has in its environment."""
    path = tmp_path / "master-keys"
    monkeypatch.setenv(VARIABLE, str(path))

    def written(*lines: str) -> None:
        path.write_text("\n".join(lines))

    return written


async def test_all_keys_are_wrapped_with_the_first_master_key(
    connection: Connection,
    server: str,
    master_keys: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also keys from before there was one, and keys under another one. The way back works too."""
    monkeypatch.setattr("eventstore.personal.rewrapping.AT_ONCE", 2)
    master_keys("plain", FIRST)
    keys = PostgresKeys(server)
    subjects = {f"s{number}" for number in range(5)} | {"a\0b"}
    made = await keys.to_write(subjects)
    assert {len(each) for each in await kept(connection)} == {32}
    for lines, length in (
        ((FIRST,), WRAPPED),
        ((SECOND, FIRST), WRAPPED),
        (("plain", SECOND), 32),
    ):
        master_keys(*lines)
        assert await wrap_again(connection, MasterKeys()) == len(subjects)
        assert await wrap_again(connection, MasterKeys()) == 0
        assert {len(each) for each in await kept(connection)} == {length}
        other = PostgresKeys(server)
        assert await other.to_write(subjects) == made
        other.close()
    keys.close()


async def test_new_keys_are_wrapped_and_a_process_without_the_master_key_waits(
    connection: Connection, server: str, master_keys: Callable[..., None]
) -> None:
    master_keys(FIRST)
    keys, other = PostgresKeys(server), PostgresKeys(server)
    ada = (await keys.to_write({"ada"}))["ada"]
    assert await other.to_write({"ada"}) == {"ada": ada}
    other.close()
    [stored] = await kept(connection)
    assert ada.key not in stored
    master_keys(SECOND)
    late = PostgresKeys(server)
    with pytest.raises(NoMasterKey, match="master key"):
        await late.to_read({ada.id})
    with pytest.raises(NoMasterKey):
        await wrap_again(connection, MasterKeys())
    assert await kept(connection) == [stored]
    master_keys(SECOND, FIRST)
    assert await late.to_read({ada.id}) == {ada.id: ada}
    late.close()
    keys.close()


async def test_a_key_that_was_changed_in_postgres_counts_as_unknown(
    connection: Connection, server: str, master_keys: Callable[..., None]
) -> None:
    """The person does not count as forgotten, and the other keys can be used."""
    master_keys(FIRST)
    keys = PostgresKeys(server)
    made = await keys.to_write({"ada", "bob"})
    ada, bob = made["ada"], made["bob"]
    stored = "(SELECT key FROM rayfold_personal_key WHERE subject = 'bob')"
    await connection.execute(
        f"UPDATE rayfold_personal_key SET key = {stored} WHERE subject = 'ada'"
    )
    late = PostgresKeys(server)
    assert await late.to_read({ada.id, bob.id}) == {bob.id: bob}
    assert await late.to_write({"ada", "bob"}) == {"bob": bob}
    late.close()
    keys.close()
    assert await wrap_again(connection, MasterKeys()) == 0
    master_keys(SECOND, FIRST)
    assert await wrap_again(connection, MasterKeys()) == 1


async def test_a_key_destroyed_while_it_is_being_wrapped_stays_destroyed(
    connection: Connection, two: list[PostgresKeys], master_keys: Callable[..., None], server: str
) -> None:
    ada = (await two[0].to_write({"ada"}))["ada"]
    master_keys(FIRST)
    forgetting = await connect(server)

    class Between(MasterKeys):
        def wrapped(self, *of: Any) -> bytes:
            forgotten_now.set()
            return super().wrapped(*of)

    forgotten_now = asyncio.Event()
    async with forgetting.transaction():
        await forgetting.execute("SELECT FROM rayfold_personal_key FOR UPDATE")
        wrapping = asyncio.create_task(wrap_again(connection, Between()))
        await asyncio.wait_for(forgotten_now.wait(), 10)
        assert await destroy(forgetting, {ada.id}) == 1
    await wrapping
    assert await kept(connection) == []
    await forgetting.close()
