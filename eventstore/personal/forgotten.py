"""Who is forgotten by now, for parts that keep decrypted data: rows, and snapshots of them."""

from __future__ import annotations

from typing import NamedTuple

from eventstore.port import Log


class Forgotten(NamedTuple):
    """The forgotten subjects at one moment. `mark` changes with each forgetting.

    `is_settled`: no decrypted data of them is left. Until then, the rows of another replica may
    still have such data, so they may not be copied.
    """

    mark: str
    is_settled: bool


NOBODY = Forgotten("", True)


async def forgotten_by_now(log: Log) -> Forgotten:
    """Return the forgotten subjects; none if the domain has no personal data.

    Raises:
        StoreUnavailable: they cannot be read.
    """
    ask = getattr(log, "forgotten", None)
    found: Forgotten = NOBODY if ask is None else await ask()
    return found
