"""Writes that exceed one transaction of DynamoDB: journaled first, then applied in several.

A transaction has at most a hundred items. Larger changes, of one event that concerns many rows, are
entries of a *journal*. Writing the journal's name to the checkpoint commits them; whoever opens the
partition next applies those that are left. Each step checks that the checkpoint still has the
journal, so a late step does nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence

from projections.dynamodb.keys import GenerationKeys, Key
from projections.dynamodb.rows import Item
from projections.dynamodb.table import (
    TRANSACTION,
    TRANSACTION_BYTES,
    Check,
    Delete,
    NotSo,
    Put,
    Table,
    Unchanged,
    Update,
    size_of,
)
from projections.errors import ReadStoreUnavailable

Change = Put | Delete


def fits(changes: Sequence[Change]) -> bool:
    """Return whether changes fit into one transaction, with the checkpoint."""
    return (
        len(changes) < TRANSACTION and sum(size_of(each) for each in changes) <= TRANSACTION_BYTES
    )


async def write_journal(
    table: Table, keys: GenerationKeys, partition: int, changes: Sequence[Change]
) -> tuple[str, int]:
    """Record changes; return the journal's name and its number of entries.

    Raises:
        ReadStoreUnavailable: the journal may be incomplete.
    """
    name = secrets.token_hex(8)
    await table.write(
        Put(keys.journal(partition, name, number), _entry(each))
        for number, each in enumerate(changes)
    )
    return name, len(changes)


async def finish_journal(table: Table, keys: GenerationKeys, partition: int) -> None:
    """Apply the journal of a partition's checkpoint, if it has one.

    Raises:
        ReadStoreUnavailable: some entries are not applied yet.
    """
    at = keys.checkpoint(partition)
    [checkpoint] = await table.get([at])
    if checkpoint is None or "journal" not in checkpoint:
        return
    name = checkpoint["journal"]
    begins = keys.journal_of(partition, name)
    entries = [each async for each in table.all(keys.journals, begins)]
    if len(entries) != checkpoint["entries"]:
        raise ReadStoreUnavailable(f"entries of the journal {name} of {keys.generation} are lost")
    still = Check("#journal = :journal", {":journal": name})
    # The mark stays that of the transaction that committed the journal.
    done = {"position": checkpoint["next"], **dict.fromkeys(("journal", "entries", "next"))}
    try:
        for chunk in _chunks([_change(each) for each in entries]):
            await table.transact([Unchanged(at, still), *chunk])
        await table.update(Update(at, done, still))
    except NotSo:
        return  # another process has done it
    await table.write(Delete(Key(each["pk"], each["sk"])) for each in entries)


def _chunks(changes: Sequence[Change]) -> Iterator[list[Change]]:
    chunk: list[Change] = []
    size = 0
    for each in changes:
        if chunk and (len(chunk) == TRANSACTION - 1 or size + size_of(each) > TRANSACTION_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(each)
        size += size_of(each)
    if chunk:
        yield chunk


def _entry(change: Change) -> Item:
    where = {"to_pk": change.key.pk, "to_sk": change.key.sk}
    return {**change.item, **where} if isinstance(change, Put) else {**where, "gone": True}


def _change(entry: Item) -> Change:
    key = Key(entry["to_pk"], entry["to_sk"])
    if "gone" in entry:
        return Delete(key)
    own = ("pk", "sk", "to_pk", "to_sk")
    return Put(key, {name: each for name, each in entry.items() if name not in own})
