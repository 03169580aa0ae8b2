"""Views that a release takes up again, though a person in their rows was forgotten meanwhile.

Forgetting a person rebuilds the domain's views. Rows of a view that was removed stay, as the
previous release may still serve them; if that or another release brings the view back, it would
serve them again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rayfold import ViewDefinition

if TYPE_CHECKING:
    from rayfold import Registry
    from rayfold.runtime.postgres import Connection

_TABLE = """
CREATE TABLE IF NOT EXISTS rayfold_personal_view (
    view text, store text, left_at timestamptz, forgotten bigint, PRIMARY KEY (view, store)
);
ALTER TABLE rayfold_personal_view ADD COLUMN IF NOT EXISTS forgotten bigint;
"""
"""The views that store personal data, or did: without `left_at`, the domain has the view now.

`forgotten` is the number of forgotten persons when it left: a higher number now, and not a clock,
shows that someone was forgotten since.
"""

_KEEP = "INSERT INTO rayfold_personal_view (view, store) VALUES ($1, $2) ON CONFLICT DO NOTHING"
_FORGOTTEN = "SELECT count(settled_at) FROM rayfold_personal_key WHERE key IS NULL"
_LEAVE = (
    f"UPDATE rayfold_personal_view SET left_at = now(), forgotten = ({_FORGOTTEN})"
    " WHERE left_at IS NULL"
    " AND NOT (view, store) IN (SELECT * FROM unnest($1::text[], $2::text[]))"
)
_BACK = (
    f"SELECT view, store, forgotten IS DISTINCT FROM ({_FORGOTTEN})"
    " OR EXISTS (SELECT FROM rayfold_personal_key WHERE key IS NULL AND settled_at IS NULL)"
    " AS is_stale FROM rayfold_personal_view WHERE left_at IS NOT NULL"
    " AND (view, store) IN (SELECT * FROM unnest($1::text[], $2::text[])) ORDER BY view, store"
)
_UP = "UPDATE rayfold_personal_view SET left_at = NULL WHERE view = $1 AND store = ANY($2)"

StoresOf = Callable[[ViewDefinition], Sequence[str]]


async def taken_up(
    connection: Connection, registry: Registry, stores_of: StoresOf
) -> dict[str, list[str]]:
    """Record the views that are stored; return those to rebuild before they are read.

    `stores_of` returns the stores that keep a view here; those that have it again are returned with
    it.
    """
    await connection.execute(_TABLE)
    views, stores = _kept(registry, stores_of)
    await connection.executemany(_KEEP, [*zip(views, stores, strict=True)])
    await connection.execute(_LEAVE, views, stores)
    stale: dict[str, list[str]] = {}
    for view, store, is_stale in await connection.fetch(_BACK, views, stores):
        if is_stale:
            stale.setdefault(view, []).append(store)
        else:
            await note_built(connection, view, [store])
    return stale


async def note_built(connection: Connection, view: str, stores: Sequence[str]) -> None:
    """Record that a view's rows in these stores have no data of forgotten persons."""
    await connection.execute(_UP, view, stores)


def _kept(registry: Registry, stores_of: StoresOf) -> tuple[list[str], list[str]]:
    # Snapshots of views only in memory record themselves who was forgotten.
    pairs = [
        (name, store)
        for name in registry.views_of_personal_data
        for store in (stores_of(registry.views[name]) if name in registry.views else ("postgres",))
        if store != "memory"
    ]
    return [view for view, _ in pairs], [store for _, store in pairs]
