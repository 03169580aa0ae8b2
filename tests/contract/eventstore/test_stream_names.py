"""The index of stream names: every committed stream is found, whatever was merged or cut off."""

import sqlite3
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventstore.embedded.storage import stream_names
from eventstore.embedded.storage.schema import prepare
from eventstore.embedded.storage.stream_names import StreamNames

LIMIT = 20
"""Names that gather before a merge begins; so small that a test sees many merges."""
MOST = 15
"""New streams of one transaction."""


class Store:
    """The writer's side of the index: transactions that commit, fail, or are cut off."""

    def __init__(self) -> None:
        self.db = sqlite3.connect(":memory:", isolation_level=None)
        prepare(self.db)
        self.index = StreamNames(self.db, LIMIT)
        self.names: list[str] = []

    def commit(self, count: int) -> None:
        born = self._write(count)
        self.db.execute("COMMIT")
        self.index.committed(born)
        self.names += [name for name, _ in born]

    def fail(self, count: int) -> None:
        self._write(count)
        self.db.execute("ROLLBACK")

    def crash(self, count: int) -> None:
        """Commit, and die before memory has heard of it."""
        born = self._write(count)
        self.db.execute("COMMIT")
        self.names += [name for name, _ in born]
        self.index = StreamNames(self.db, LIMIT)

    def _write(self, count: int) -> list[tuple[str, int]]:
        first = len(self.names) + 1
        born = [(f"order-{number}", number) for number in range(first, first + count)]
        self.db.execute("BEGIN IMMEDIATE")
        self.db.executemany("INSERT INTO streams (name, id) VALUES (?, ?)", born)
        self.index.stage(self.db, count)
        return born

    def check(self) -> None:
        for number, name in enumerate(self.names, 1):
            assert self.index.find(self.db, name) == number
        missing = ["nobody", f"order-{len(self.names) + 1}"]
        assert [self.index.find(self.db, name) for name in missing] == [0, 0]
        assert set(self.index.unknown(self.db, [*self.names, *missing])) <= set(missing)
        waiting = sum(len(table.numbers) for table in self.index._tables)
        assert waiting <= 2 * (LIMIT + MOST)


step = st.tuples(st.sampled_from(["commit", "commit", "fail", "crash"]), st.integers(0, MOST))


@settings(max_examples=60, deadline=None)
@given(st.lists(step, max_size=60))
def test_every_committed_stream_is_found(steps: list[tuple[str, int]]) -> None:
    store = Store()
    for kind, count in steps:
        getattr(store, kind)(count)
    store.check()


def test_merges_reach_the_table_in_small_portions() -> None:
    store = Store()
    in_table = []
    for _ in range(LIMIT * 5):
        store.commit(1)
        in_table.append(store.db.execute("SELECT count(*) FROM names").fetchone()[0])
    assert in_table[-1] >= LIMIT * 3
    assert max(after - before for before, after in pairwise(in_table)) <= 4
    store.check()


def test_names_with_one_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_names, "name_hash", lambda name: 7)
    store = Store()
    for _ in range(LIMIT * 4):
        store.commit(1)
    store.check()
