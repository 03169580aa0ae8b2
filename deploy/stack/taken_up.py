"""Views that a release takes up again, and of whose rows somebody was forgotten meanwhile.

A forgetting rebuilds the views that the domain has. The rows of one that it has no more stay, as
the release before may still serve them; where that, or another one, comes back they would serve on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rayfold import Registry
    from rayfold.runtime.postgres import Connection

_TABLE = """
CREATE TABLE IF NOT EXISTS rayfold_personal_view (
    view text, store text, left_at timestamptz, PRIMARY KEY (view, store)
)
"""
"""What keeps personal data, or kept it: without `left_at` the domain has it now."""

_NEVER = "SELECT to_regclass('rayfold_personal_view') IS NULL"
_KEEP = "INSERT INTO rayfold_personal_view (view, store) VALUES ($1, $2) ON CONFLICT DO NOTHING"
_LEAVE = (
    "UPDATE rayfold_personal_view SET left_at = now() WHERE left_at IS NULL"
    " AND NOT (view, store) IN (SELECT * FROM unnest($1::text[], $2::text[]))"
)
_BACK = (
    "SELECT view, store FROM rayfold_personal_view WHERE left_at IS NOT NULL"
    " AND (view, store) IN (SELECT * FROM unnest($1::text[], $2::text[]))"
)
_OF_SOMEBODY = (
    "SELECT DISTINCT view FROM rayfold_personal_view"
    " WHERE left_at IS NOT NULL AND view = ANY($1) AND EXISTS (SELECT FROM rayfold_personal_key"
    " WHERE key IS NULL AND (settled_at IS NULL OR settled_at >= left_at)) ORDER BY view"
)
_UP = "UPDATE rayfold_personal_view SET left_at = NULL WHERE view = $1"


async def taken_up(connection: Connection, registry: Registry) -> list[str]:
    """Note what the domain keeps; return the views to build afresh before anybody reads them."""
    if not registry.is_personal and await connection.fetchval(_NEVER):
        return []
    await connection.execute(_TABLE)
    views, stores = _kept(registry)
    await connection.executemany(_KEEP, [*zip(views, stores, strict=True)])
    await connection.execute(_LEAVE, views, stores)
    back = {row["view"] for row in await connection.fetch(_BACK, views, stores)}
    stale = [row["view"] for row in await connection.fetch(_OF_SOMEBODY, [*back])] if back else []
    for view in back.difference(stale):
        await note_built(connection, view)
    return stale


async def note_built(connection: Connection, view: str) -> None:
    """Note that nobody who was forgotten is in a view's rows."""
    await connection.execute(_UP, view)


def _kept(registry: Registry) -> tuple[list[str], list[str]]:
    # Snapshots of what memory alone has say themselves who was forgotten.
    pairs = [
        (name, store)
        for name in registry.views_of_personal_data
        for store in (registry.views[name].stores if name in registry.views else ("postgres",))
        if store != "memory"
    ]
    return [view for view, _ in pairs], [store for _, store in pairs]
