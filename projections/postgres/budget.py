"""Checking that Postgres allows as many connections as the stack may open."""

from __future__ import annotations

import logging

from projections.postgres.database import CONNECTIONS, READERS, Database
from projections.supervision.placements import Placements
from rayfold.runtime.postgres import is_pooled

log = logging.getLogger(__name__)

_CONSUMERS = 3
"""Connections of a competing consumer."""

_OCCASIONAL = 4
"""Connections for the probe, a rebuild, a change of scale, and manual inspection."""

# The session's user, and not the current one: it may act as another role, which owns the tables.
_ALLOWED = """
SELECT least(
  current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
    - coalesce(current_setting('reserved_connections', true)::int, 0),
  (SELECT nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = session_user),
  (SELECT nullif(datconnlimit, -1) FROM pg_database WHERE datname = current_database())
) AS allowed,
(SELECT count(*) FROM pg_stat_activity WHERE usename <> session_user)::int AS others,
(SELECT count(DISTINCT application_name) FROM pg_stat_activity
  WHERE starts_with(application_name, $1))::int AS readers
"""


def wanted(placements: Placements, hosts: int = 0) -> int:
    """Return how many connections the actors open at most, not counting readers: see `CONNECTIONS`.

    `hosts` is the number for all hosts of the write side together.
    """
    actors = len(placements.projectors_of("postgres")) + len(placements.all_sql)
    return actors + _CONSUMERS * len(placements.all_consumers) + hosts + _OCCASIONAL


async def warn(database: Database, placements: Placements, hosts: int) -> None:
    """Tell operators if connections may run out.

    Raises:
        PostgresUnavailable: Postgres does not answer.
    """
    if short := await shortage(database, wanted(placements, hosts)):
        log.warning("Postgres may run out of connections", extra={"reason": short})


async def shortage(database: Database, actors: int) -> str | None:
    """Return a line for operators if connections may run out; a pooler shares out what there is.

    `actors` is the number for all actors; each gateway that is connected now needs its own as well.

    Raises:
        PostgresUnavailable: Postgres does not answer.
    """
    if is_pooled(database.dsn):
        return None
    [found] = await database.fetch(_ALLOWED, READERS)
    wanted = actors + CONNECTIONS * max(found["readers"], 1)
    if wanted <= found["allowed"] - found["others"]:
        return None
    return (
        f"Postgres allows this user {found['allowed']} connections, others have"
        f" {found['others']} open, and up to {wanted} are wanted: raise max_connections or the"
        " user's limit, or use a pooler"
    )
