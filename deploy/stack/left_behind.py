"""What a changed domain has left behind, because it was removed or renamed: reported at a start.

None of it keeps a stack from running, but all of it would be noticed too late: an unfinished saga
that nothing continues, a command that is refused once it is due, personal data in rows that no view
shows and no deletion reaches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from projections.postgres.generations import relation_of

if TYPE_CHECKING:
    from rayfold import Registry
    from rayfold.runtime.postgres import Connection

_PROCESSES = """
SELECT substr(kind, 9) AS name, count(*) AS number, min(key) AS one FROM rayfold_open
WHERE starts_with(kind, 'process:') AND NOT substr(kind, 9) = ANY($1) GROUP BY 1 ORDER BY 1
"""
_TIMEOUTS = """
SELECT timeout, count(*) AS number, min(key) AS one
FROM rayfold_open, json_object_keys(body::json -> 'timers') AS timeout
WHERE kind = $1 AND NOT timeout = ANY($2) GROUP BY 1 ORDER BY 1
"""
_SCHEDULED = """
SELECT body::json ->> 'command' AS command, count(*) AS number, min(key) AS one FROM rayfold_open
WHERE kind = 'schedule' AND NOT body::json ->> 'command' = ANY($1) GROUP BY 1 ORDER BY 1
"""
"""A command that cannot be read has no name; `rayfold schedules list` shows it."""
_VIEWS = "SELECT view FROM rayfold_view WHERE NOT view = ANY($1) ORDER BY 1"


async def left_behind(connection: Connection, registry: Registry) -> list[str]:
    """Return a sentence for each: what it is, what happens to it, and what to do."""
    return [
        *await _open(connection, registry),
        *await _views(connection, registry),
    ]


async def _open(connection: Connection, registry: Registry) -> list[str]:
    if await connection.fetchval("SELECT to_regclass('rayfold_open')") is None:
        return []
    found = [
        f"{row['number']} open processes of {row['name']!r}, {row['one']!r} for instance, which the"
        " domain no longer has: they do not continue. Restore the process manager until they have"
        " ended or are aborted"
        for row in await connection.fetch(_PROCESSES, [*registry.processes])
    ]
    for name, process in registry.processes.items():
        found += [
            f"{row['number']} open processes of {name!r}, {row['one']!r} for instance, wait for the"
            f" timeout {row['timeout']!r}, which no longer has a handler: they will be parked."
            " Restore the handler"
            for row in await connection.fetch(_TIMEOUTS, f"process:{name}", [*process.timeouts])
        ]
    return found + [
        f"{row['number']} commands {row['command']!r} are scheduled, {row['one']!r} for instance,"
        " which the domain no longer has: they will be refused. Restore the command, or cancel"
        " them"
        for row in await connection.fetch(_SCHEDULED, ["", *registry.commands])
    ]


async def _views(connection: Connection, registry: Registry) -> list[str]:
    if await connection.fetchval("SELECT to_regclass('rayfold_view')") is None:
        return []
    kept = [name for name, view in registry.views.items() if "postgres" in view.stores]
    found = []
    for row in await connection.fetch(_VIEWS, [*kept, *registry.projections]):
        relation = relation_of(view := row["view"])
        if await connection.fetchval("SELECT to_regclass($1)", f'"{relation}"') is not None:
            kind = "TABLE"
        elif await connection.fetchval("SELECT to_regnamespace($1)", f'"{relation}"') is not None:
            kind = "SCHEMA"
        else:
            continue
        drop = f'DROP {kind} "{relation}"{" CASCADE" if kind == "SCHEMA" else ""}'
        found.append(
            f"the rows of {view!r}, which the domain no longer keeps in Postgres: they are not"
            f" updated, and no deletion reaches them. Once no older release runs: {drop}"
        )
    return found
