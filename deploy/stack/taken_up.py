"""Views that a release takes up again, and of whose rows somebody was forgotten meanwhile.

A forgetting rebuilds the views that the domain has. The rows of one that it has no more stay, as
the release before may still serve them; where that, or another one, comes back they would serve on.
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
"""What keeps personal data, or kept it: without `left_at` the domain has it now.

`forgotten` says how many were when it left: by that, and by no clock, somebody is known who was
since."""

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
    """Note what is kept; return the views to build afresh before anybody reads them.

    `stores_of` gives the stores that keep a view here; those that have it again come with the view.
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
    """Note that nobody who was forgotten is in a view's rows there."""
    await connection.execute(_UP, view, stores)


def _kept(registry: Registry, stores_of: StoresOf) -> tuple[list[str], list[str]]:
    # Snapshots of what memory alone has say themselves who was forgotten.
    pairs = [
        (name, store)
        for name in registry.views_of_personal_data
        for store in (stores_of(registry.views[name]) if name in registry.views else ("postgres",))
        if store != "memory"
    ]
    return [view for view, _ in pairs], [store for _, store in pairs]
