"""Whether a log belongs to a stack with tenants: then each of its streams is one tenant's.

A stream's name alone does not show that, since an id may be any text. So the first stack that
serves tenants marks its log permanently, and no log ever holds both kinds.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from uuid import uuid4

from eventstore.deletions import is_of_the_server
from eventstore.one_record import first_record
from eventstore.port import Appended, Log, StreamAppend
from eventstore.records import NewRecord

STREAM = "rayfold-tenants"
"""The stream with the mark; no domain may use the category `rayfold`."""

_TYPE = "TenantsServed"
TYPES = (_TYPE,)


class MixedTenancy(Exception):
    """The log is of the other kind than the stack; the message says what to do."""


async def check_tenancy(log: Log, prefixes: Sequence[str], *, tenants: bool) -> None:
    """Check that a log fits a stack: with `tenants` it is marked or could be, without it is not.

    `prefixes` are the prefixes of the streams that would belong to tenants.

    Raises:
        MixedTenancy: the log is of the other kind.
        StoreUnavailable: no answer.
    """
    if await is_of_tenants(log):
        if not tenants:
            raise MixedTenancy(
                "the log is that of a stack that serves tenants: set tenants = true"
                " (RAYFOLD_TENANTS=true)"
            )
        return
    if not tenants:
        return
    async with aclosing(log.read_all(prefixes)) as records:
        async for raw in records:
            if not is_of_the_server(raw):
                raise MixedTenancy(
                    f"the log has data of no tenant ({raw.stream!r}): tenants begin with an empty"
                    " log, so take tenants = true away, or give another --data or --eventstore"
                )


async def mark_as_tenants(log: Log) -> None:
    """Mark a log as one of tenants, after `check_tenancy`; does nothing if it is marked already.

    Raises:
        MixedTenancy: the log does not accept the mark.
        StoreUnavailable: no answer; the log may be marked.
    """
    if await is_of_tenants(log):
        return
    record = NewRecord(_TYPE, b"{}", {}, str(uuid4()))
    [result] = await log.append([StreamAppend(STREAM, None, [record])])
    if not isinstance(result, Appended) and not await is_of_tenants(log):
        raise MixedTenancy(f"the log refuses the mark that it has tenants: {result!r}")


async def is_of_tenants(log: Log) -> bool:
    """Return whether a stack that serves tenants has marked the log.

    Raises:
        StoreUnavailable: no answer.
    """
    return await first_record(log, STREAM) is not None
