"""Queries for rows as they are sent to a store, and their answers."""

from __future__ import annotations

from typing import NamedTuple


class RowQuery(NamedTuple):
    """One row by `key`, or a page where `key` is None.

    `at_least` is the position that the answer must have reached. Key and filters are as
    `rayfold.key_text` writes them.
    """

    view: str
    key: str | None
    at_least: int
    filters: dict[str, str]
    limit: int
    cursor: str | None


class RowResult(NamedTuple):
    """What was found. `late`: the replica has not come to `at_least`, so it says nothing else."""

    body: bytes | None
    revision: int | None
    position: int
    late: bool = False


class Snapshot(NamedTuple):
    """A view as a store had it at one moment: its rows, and a page for each question."""

    rows: list[tuple[str, bytes, int, int]]
    """Key, document, position, and where the row began."""
    pages: list[bytes]
