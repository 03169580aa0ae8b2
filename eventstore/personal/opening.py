"""Opens the log for a part of a stack: with keys, if its domain has personal data."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from eventstore.kurrentdb.log import EventLog
from eventstore.port import Conflict, Log, StreamAppend
from rayfold import Registry

if TYPE_CHECKING:
    from eventstore.kurrentdb.persistent_subscriptions import Opener

Sealer = Callable[[Sequence[StreamAppend]], Awaitable[list[StreamAppend | Conflict]]]
"""See `PersonalLog.sealed`."""


def open_log(
    uri: str, registry: Registry, postgres: str | None, *, to_compare: bool = False
) -> Log:
    """Return a log whose personal data is decrypted with the keys in Postgres.

    If the domain has no personal data, it is a plain log without additional cost.
    `to_compare`: see `PersonalLog`.
    """
    log = EventLog(uri)
    if not registry.is_personal:
        return log
    from eventstore.personal.log import PersonalLog
    from eventstore.personal.postgres import PostgresKeys

    if not postgres:
        raise ValueError("the keys of personal data are in Postgres, and no DSN was given")
    keys = PostgresKeys(postgres)
    return PersonalLog(log, keys, tenants=registry.tenants, to_compare=to_compare)


def opener_of(log: Log) -> Opener | None:
    """Return a function that decrypts records not read through this log; None if not needed."""
    return getattr(log, "opened", None)


def sealer_of(log: Log) -> Sealer | None:
    """Return a function that encrypts records to be stored elsewhere first; None if not needed."""
    return getattr(log, "sealed", None)


def beneath(log: Log) -> Log:
    """Return the log without decryption, to compare or show what is written there."""
    found: Log = getattr(log, "beneath", log)
    return found
