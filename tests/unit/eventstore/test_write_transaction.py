"""Appends that are checked against events of the same transaction."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest

from eventstore.embedded.protocol.constants import ANY, NO_STREAM
from eventstore.embedded.storage.check import Decision
from eventstore.embedded.storage.event import Proposed
from eventstore.embedded.storage.operations import Append
from eventstore.embedded.storage.schema import connect, prepare
from eventstore.embedded.storage.stream_names import StreamNames
from eventstore.embedded.storage.write_transaction import WriteTransaction


@pytest.mark.parametrize("expected", [ANY, NO_STREAM])
def test_a_retry_in_the_same_transaction_is_written_once(tmp_path: Path, expected: int) -> None:
    connection = connect(tmp_path / "store.db", writer=True)
    try:
        prepare(connection)
        transaction = WriteTransaction(connection, StreamNames(connection))
        connection.execute("BEGIN IMMEDIATE")
        transaction.begin()
        proposed = [Proposed(uuid4().bytes, "Added", True, b"{}", b"") for _ in range(2)]
        append = Append("order-1", expected, proposed)
        first, again = append.apply(transaction), append.apply(transaction)
        assert (first.decision, again.decision) == (Decision.OK, Decision.IDEMPOTENT)
        assert (again.revision, again.position) == (first.revision, first.position) == (1, 2)
        assert len(transaction.staged) == 2
    finally:
        connection.close()


def test_acknowledged_events_are_on_the_disk(tmp_path: Path) -> None:
    """SQLite syncs the write-ahead log with each commit, not only with its checkpoints."""
    with closing(connect(tmp_path / "store.db", writer=True)) as connection:
        (level,) = connection.execute("PRAGMA synchronous").fetchone()
    assert level == 2, "FULL"
