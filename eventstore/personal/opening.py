"""The log that a part of a stack works on: with keys, where its domain has personal data."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from eventstore.kurrentdb.log import EventLog
from eventstore.port import Log
from eventstore.records import RawRecord
from rayfold import Registry

Opener = Callable[[Sequence[RawRecord]], Awaitable[list[RawRecord]]]


def open_log(uri: str, registry: Registry, postgres: str | None, *, commands: bool = False) -> Log:
    """Return a log whose personal data is decrypted with the keys in Postgres.

    Where the domain has none, it is a log as any other: nothing of this costs it anything.
    `commands`: those that stand beside their first event are decrypted too.
    """
    log = EventLog(uri)
    if not registry.is_personal:
        return log
    from eventstore.personal.log import PersonalLog
    from eventstore.personal.postgres import PostgresKeys

    if not postgres:
        raise ValueError("the keys of personal data are in Postgres, and no DSN was given")
    return PersonalLog(log, PostgresKeys(postgres), commands=commands)


def opener_of(log: Log) -> Opener | None:
    """Return what decrypts records that were not read by this log; None where nothing has to."""
    return getattr(log, "opened", None)
