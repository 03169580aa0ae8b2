"""Who is forgotten by now, for parts that keep decrypted data: rows, and snapshots of them."""

from __future__ import annotations

from typing import NamedTuple

from eventstore.port import Log


class Forgotten(NamedTuple):
    """As of a moment. `mark` is another one after each forgetting.

    `is_settled`: nothing is left of any of them that was decrypted. Until then rows that others
    have may tell of somebody, and be taken over by nobody.
    """

    mark: str
    is_settled: bool


NOBODY = Forgotten("", True)


async def forgotten_by_now(log: Log) -> Forgotten:
    """Return who is; nobody where the domain has no personal data.

    Raises:
        StoreUnavailable: it is not known.
    """
    ask = getattr(log, "forgotten", None)
    found: Forgotten = NOBODY if ask is None else await ask()
    return found
