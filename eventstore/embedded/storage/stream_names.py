"""Numbers of streams by name: the newest in memory, the rest in an index that takes them sorted.

Names are practically random, so an index that each append updates dirties another page for each new
stream: at a million streams that is most of what a commit writes. So names are first kept here.
When there are ``_RECENT_NAMES`` of them, they are merged into the table ``names``, in the table's
order and a few with each commit, so that many share a page and no commit is delayed. Until then a
restart finds them at the end of ``streams``: nothing that was committed is lost.

``names`` holds a hash and the stream's number; two names with one hash are told apart in
``streams``. Written by the writer thread, read by all: tables are swapped, never emptied, and a
name leaves memory only when the commit that put it into the index is done.
"""

import sqlite3
from collections.abc import Iterable
from hashlib import blake2b

_RECENT_NAMES = 131_072
"""Names that gather in memory; as many again are being merged. Some 40 MB at most."""
_SLICES = 1024
_SHIFT = 22
_LOWEST = -(1 << 31)
_NUMBER_BITS = 40
_NUMBERS = (1 << _NUMBER_BITS) - 1
_ROWS = 250
_PACE = 1.25
"""Names merged for each new one: above 1, so that a merge ends before the next begins."""
_KEY = "names_merged"


def name_hash(name: str) -> int:
    """Return 32 signed bits: SQLite stores these in four bytes. The file depends on it: frozen."""
    return int.from_bytes(blake2b(name.encode(), digest_size=4).digest(), "big", signed=True)


def _packed(key: int, number: int) -> int:
    return key << _NUMBER_BITS | number


class _RecentNames:
    """Names by which to look up, and the same in slices of the index's order, each row packed into
    one integer: a quarter of a million tuples would cost memory, and the collector's time."""

    __slots__ = ("newest", "numbers", "slices")

    def __init__(self) -> None:
        self.newest = 0
        self.numbers: dict[str, int] = {}
        self.slices: list[list[int]] = [[] for _ in range(_SLICES)]

    def add(self, name: str, number: int) -> None:
        key = name_hash(name)
        self.slices[(key - _LOWEST) >> _SHIFT].append(_packed(key, number))
        self.numbers[name] = self.newest = number


class StreamNames:
    """Finds streams by name. ``stage`` and ``committed`` belong to the writer."""

    def __init__(self, db: sqlite3.Connection, limit: int = _RECENT_NAMES) -> None:
        self._limit = limit
        self._recent = _RecentNames()
        self._merging: _RecentNames | None = None
        self._tables: tuple[_RecentNames, ...] = (self._recent,)
        """Both, as others see them: replaced as one."""
        self._next = 0
        self._merge_due = 0.0
        self._staged: list[int] = []
        self._staged_slices = 0
        self._open(db)

    def _open(self, db: sqlite3.Connection) -> None:
        """Find the names that wait. Those of a merge that was cut short are merged now: frequent
        restarts would otherwise begin it again and again, and memory would fill."""
        (merged,) = db.execute("SELECT value FROM meta WHERE key = ?", (_KEY,)).fetchone()
        waiting = db.execute(
            "SELECT name, id FROM streams WHERE id > ? ORDER BY id", (int(merged),)
        ).fetchall()
        if len(waiting) < self._limit:
            self.committed(waiting)
            return
        db.execute("BEGIN IMMEDIATE")
        self._insert(db, sorted(_packed(name_hash(name), number) for name, number in waiting))
        self._mark(db, waiting[-1][1])
        db.execute("COMMIT")

    def _insert(self, db: sqlite3.Connection, rows: list[int]) -> None:
        # Few statements: each has to win the interpreter back from the busy event loop.
        for at in range(0, len(rows), _ROWS):
            some = rows[at : at + _ROWS]
            values = [part for row in some for part in (row >> _NUMBER_BITS, row & _NUMBERS)]
            # IGNORE: part of them may be there already, from a merge that a crash cut short.
            db.execute(
                f"INSERT OR IGNORE INTO names VALUES {','.join(['(?,?)'] * len(some))}", values
            )

    def _mark(self, db: sqlite3.Connection, newest: int) -> None:
        db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_KEY, str(newest)))

    def find(self, db: sqlite3.Connection, name: str) -> int:
        """Return the number of a committed stream; 0 if there is none of this name."""
        number = self._in_memory(name)
        if number is not None:
            return number
        row = db.execute(
            "SELECT s.id FROM names n CROSS JOIN streams s ON s.id = n.id"
            " WHERE n.hash = ? AND s.name = ?",
            (name_hash(name), name),
        ).fetchone()
        return int(row[0]) if row else 0

    def unknown(self, db: sqlite3.Connection, names: Iterable[str]) -> list[str]:
        """Return names that no stream has, found in one query; a few of them may be left out."""
        hashes = {name: name_hash(name) for name in names if self._in_memory(name) is None}
        if not hashes:
            return []
        marks = ",".join("?" * len(hashes))
        query = f"SELECT hash FROM names WHERE hash IN ({marks})"
        taken = {key for (key,) in db.execute(query, tuple(hashes.values()))}
        return [name for name, key in hashes.items() if key not in taken]

    def _in_memory(self, name: str) -> int | None:
        # The tables are taken before the index is read: what has left them since is in it.
        for table in self._tables:
            if (number := table.numbers.get(name)) is not None:
                return number
        return None

    def stage(self, db: sqlite3.Connection, new_streams: int) -> None:
        """Merge some more, in the transaction that makes so many new streams."""
        merging = self._merging
        self._staged, self._staged_slices = [], self._next
        if merging is None:
            return
        due = self._merge_due + new_streams * _PACE
        while self._staged_slices < _SLICES and len(self._staged) < due:
            self._staged += sorted(merging.slices[self._staged_slices])
            self._staged_slices += 1
        self._insert(db, self._staged)
        if self._staged_slices == _SLICES:
            self._mark(db, merging.newest)

    def committed(self, new_streams: Iterable[tuple[str, int]]) -> None:
        """Let go of what the index has now, take in the new streams: the commit is done."""
        if self._merging is not None:
            self._merge_due -= len(self._staged)
            self._next = self._staged_slices
            if self._next == _SLICES:
                self._merging = None
                self._tables = (self._recent,)
        self._staged = []
        for name, number in new_streams:
            self._recent.add(name, number)
            self._merge_due += _PACE
            if self._merging is None and len(self._recent.numbers) >= self._limit:
                self._merging, self._recent = self._recent, _RecentNames()
                self._tables = (self._recent, self._merging)
                self._next = self._staged_slices = 0
                self._merge_due = 0.0
